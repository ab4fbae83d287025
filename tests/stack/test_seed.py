"""`dagfusion seed`: what is missing is materialized, what is there stays, and the seed decides the data."""

import json
from typing import Any

import pytest

from tests.stack.conftest import Command

ORGANIZATIONS = "local_silver_tax_id.partitioned_organizations"
ORDERS = "local_silver_commerce.partitioned_orders"

pytestmark = pytest.mark.slow


def test_only_what_is_missing_is_written(module_command: Command) -> None:
    first = _seed(module_command, "--days", "2", "--states", "3")
    assert {table: (one["partitions"], one["written"]) for table, one in first.items()} == {
        "local_silver_tax_id.raw_organizations": (1, 1),
        ORGANIZATIONS: (6, 6),
        "local_bronze_commerce.raw_orders": (1, 1),
        ORDERS: (6, 6),
    }

    more = _seed(module_command, "--days", "2", "--scale", "1.5", "--states", "3")
    assert {table: (one["partitions"], one["written"]) for table, one in more.items()} == {
        "local_silver_tax_id.raw_organizations": (1, 0),
        ORGANIZATIONS: (9, 3),
        "local_bronze_commerce.raw_orders": (1, 0),
        ORDERS: (9, 3),
    }


def test_the_seed_decides_the_data(command: Command, module_command: Command) -> None:
    own = _seed(module_command, "--days", "3", "--states", "3")
    other = _seed(command, "--days", "3", "--states", "3", "--seed", "7")

    assert {table: one["partitions"] for table, one in own.items()} == {
        t: one["partitions"] for t, one in other.items()
    }
    assert own[ORDERS]["bytes"] != other[ORDERS]["bytes"]


def test_another_environment_must_say_where_its_runs_are_logged(command: Command) -> None:
    uat = command.with_variables(ENVIRONMENT="uat")

    result = uat.run("seed", "--days", "1")

    assert (result.returncode, result.stdout) == (1, "")
    assert "error: DAGSTER_HOME must be set to fill ENVIRONMENT=uat" in result.stderr


def _seed(command: Command, *arguments: str) -> dict[str, dict[str, Any]]:
    result = command.run("seed", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return {one["table"]: one for one in json.loads(result.stdout)}
