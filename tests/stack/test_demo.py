"""`dagfusion demo`: every answer checked, a second run that reuses the state, and a failure when an object is wrong."""

import json
import re
from typing import Any

import obstore
import pytest

from dagfusion_stack import object_store, process
from dagfusion_stack.cli import LEAST_DAYS, LEAST_STATES
from tests.stack.conftest import Command

EXTENT = ("--days", str(LEAST_DAYS), "--states", str(LEAST_STATES))  # the smallest: every query has to have rows
QUERY_FIELDS = {"name", "sql", "rows", "files_total", "files_read", "files_skipped", "bytes_read", "seconds", "ok"}
POINT = "datafusion_test/Silver/TaxID/partitioned_organizations/state=CA/date=2024-01-05/data.parquet"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first(module_command: Command) -> dict[str, Any]:
    result = module_command.run("demo", "--json", *EXTENT)
    assert result.returncode == 0, result.stderr
    assert "Materializing Gold/Analytics/daily_sales_aggregates" in result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_the_document(first: dict[str, Any]) -> None:
    assert set(first) == {"ok", "seconds", "assets", "queries"}
    assert first["ok"] is True
    assert all(set(asset) == {"key", "table", "partitions", "rows", "bytes"} for asset in first["assets"])
    assert [(asset["table"], asset["partitions"]) for asset in first["assets"]] == [
        ("local_silver_tax_id.raw_organizations", 1),
        ("local_silver_tax_id.partitioned_organizations", 25),
        ("local_gold_analytics.daily_org_aggregates", 5),
        ("local_bronze_commerce.raw_orders", 1),
        ("local_silver_commerce.partitioned_orders", 25),
        ("local_gold_analytics.daily_sales_aggregates", 5),
    ]
    assert all(set(query) == QUERY_FIELDS and query["ok"] is True for query in first["queries"])


def test_queries_read_what_they_need(first: dict[str, Any]) -> None:
    read = {query["name"]: (query["files_read"], query["files_total"]) for query in first["queries"]}
    assert read["point"] == (1, 25)
    assert read["state"] == (5, 25)
    assert read["date"] == (5, 25)
    assert read["ordinary_column"] == (1, 25)
    assert read["join"] == (2, 26)
    assert all(query["rows"] > 0 for query in first["queries"])
    assert all(query["files_read"] + query["files_skipped"] == query["files_total"] for query in first["queries"])


@pytest.mark.parametrize("smaller", [("--days", str(LEAST_DAYS - 1)), ("--states", str(LEAST_STATES - 1))])
def test_less_than_the_queries_ask_for_is_refused(command: Command, smaller: tuple[str, str]) -> None:
    result = command.run("demo", *smaller)
    assert result.returncode == 2
    assert re.search(f"'{smaller[0]}': .*{int(smaller[1]) + 1}", result.stderr)


@pytest.mark.usefixtures("first")
def test_a_second_run_reuses_the_state_and_shows_every_answer(module_command: Command) -> None:
    result = module_command.run("demo", *EXTENT)
    assert result.returncode == 0, result.stderr
    assert "Everything is materialized already" in result.stderr
    assert "Materializing" not in result.stderr
    assert len(re.findall(r"\(checked\)", result.stdout)) == 9
    assert "1 of 25 files read, 24 skipped" in result.stdout
    assert process.marked(module_command.home.path) == {}


@pytest.mark.usefixtures("first")
def test_an_object_that_was_replaced_fails_the_demo(module_command: Command) -> None:
    home = module_command.home
    with object_store.running(home.s3, buckets=["dagster-parquet-data"]) as server:
        store = server.bucket("dagster-parquet-data")
        obstore.put(store, POINT, bytes(obstore.get(store, POINT.replace("-05", "-04")).bytes()))
    result = module_command.run("demo", "--json", *EXTENT)
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.search(r"^error: .*state=CA/date=2024-01-05", result.stderr, re.MULTILINE)
    assert process.marked(home.path) == {}
