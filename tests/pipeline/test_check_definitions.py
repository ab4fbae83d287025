"""What `partition_checks` refuses when it is called, and the names that it gives."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from dagfusion_pipeline import partition_checks
from dagfusion_pipeline.errors import ConfigurationError

SCHEMA = dg.TableSchema([dg.TableColumn("npi", "string"), dg.TableColumn("age", "int64")])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "checks nothing"),
        ({"rows": (5, 1)}, "ascending"),
        ({"rows": (None, None)}, "one may be None"),
        ({"rows": (0.5, None)}, "numbers of rows"),
        ({"not_null": "npi"}, r"write \['npi'\]"),
        ({"not_null": ["npl"]}, r"declares \['npi', 'age'\]: name one of them"),
        ({"not_null": [3]}, "names of columns"),
        ({"bounds": {"agee": (1, 2)}}, "declare the column"),
        ({"bounds": {"age": (1, "2")}}, "ascending"),
        ({"bounds": {"age": ("a", "b")}}, "must be numbers, got 'a'"),
        ({"bounds": {"age": (float("nan"), None)}}, "ascending"),
        ({"bounds": {"age": 5}}, "a pair"),
        ({"schema": "types"}, "True, False or 'names'"),
        ({"fresh_within": dt.timedelta(0)}, "positive timedelta"),
        ({"rows": (1, None), "unknown": "pass"}, "'warn' or 'fail'"),
    ],
)
def test_what_cannot_be_checked_is_refused_when_it_is_defined(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        partition_checks(dg.AssetSpec("orgs", metadata={"dagster/column_schema": SCHEMA}), **options)


def test_assets_that_cannot_be_checked_are_refused() -> None:
    @dg.multi_asset(specs=[dg.AssetSpec("a"), dg.AssetSpec("b")])
    def several() -> Iterator[dg.MaterializeResult[None]]:
        yield dg.MaterializeResult(asset_key="a")
        yield dg.MaterializeResult(asset_key="b")

    declared = dg.TableSchema([dg.TableColumn("a", "VARCHAR")])
    with pytest.raises(ConfigurationError, match="get_asset_spec"):
        partition_checks(several, rows=(1, None))
    with pytest.raises(ConfigurationError, match="AssetKey"):
        partition_checks("a", rows=(1, None))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="partitions_def"):
        partition_checks(dg.AssetKey("a"), rows=(1, None), partitioned=True)
    with pytest.raises(ConfigurationError, match="schema='names'"):
        partition_checks(dg.AssetSpec("a", metadata={"dagster/column_schema": declared}), schema=True)


def test_names_are_those_that_dagster_takes_and_differ() -> None:
    checks = partition_checks(dg.AssetKey(["Silver", "a-b"]), not_null=["a b", "a-b", "é"])
    assert {key.name for key in checks.check_keys} == {"a_b_not_null", "a_b_not_null_2", "__not_null"}
    others = partition_checks(dg.AssetKey(["Silver", "a-b"]), rows=(1, None))
    assert checks.op.name != others.op.name
