"""The engine of a statement, and the versions of the tables of one that Spark runs."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from dagfusion_client.as_of import AsOf
from dagfusion_client.documents.query_documents import ScanStats
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import EngineChoiceError, UnknownTableError
from dagfusion_contract.iceberg_names import is_past_metadata, metadata_of_version
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.spark import SparkServer
from dagfusion_query.access.grants import ALL, Grants
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot, layouts_of
from dagfusion_query.catalog.past_tables import PastTable, as_past
from dagfusion_query.event_log.event_log_interface import Moment
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.service.past_finder import FoundPast
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.worker.messages import Mode, Planned
from tests.interop.iceberg.conftest import publisher
from tests.interop.iceberg.reading import Part, record
from tests.query.catalog.folding import EMPTY, written
from tests.server.doors.iceberg.conftest import snapshot
from tests.server.fake_service import environment

__all__ = ["publisher"]

SERVER = SparkServer(url="sc://here", catalog="lake", session="s")
NONE: Mapping[str, Publisher] = {}
local, spark, auto = EngineChoice.local, EngineChoice.spark, EngineChoice.auto


def tables(
    server: SparkServer | None = SERVER, publishers: Mapping[str, Publisher] = NONE, **settings: Any
) -> SparkTables:
    return SparkTables(ServiceSettings(**settings), server, publishers)


@pytest.mark.parametrize(
    ("default", "chosen", "expected"),
    [
        ("local", None, local),
        ("spark", None, spark),
        ("auto", None, auto),
        ("auto", local, local),
        ("local", spark, spark),
        ("local", auto, auto),
    ],
)
def test_a_query_chooses_else_the_service(default: str, chosen: EngineChoice | None, expected: EngineChoice) -> None:
    found = tables(engine=default)
    for as_of in (None, AsOf(1)):
        assert found.choice(Query("SELECT 1", engine=chosen, as_of=as_of), Mode.run) is expected
    for mode in (Mode.describe, Mode.explain):
        assert found.choice(Query("SELECT 1", engine=chosen), mode) is local


def test_a_service_without_a_server_refuses_only_spark() -> None:
    found = tables(None)
    assert found.choice(Query("SELECT 1", engine=auto), Mode.run) is local
    with pytest.raises(EngineChoiceError, match="set DAGFUSION_SPARK_REMOTE"):
        found.choice(Query("SELECT 1", engine=spark), Mode.run)


def planned(names: Sequence[str] | None, size_bytes: int = 0) -> Planned:
    scans = [ScanStats(name, 1, 1, size_bytes, size_bytes) for name in names or ()]
    return Planned(planning_s=0.0, generations={}, cached=False, scans=scans, path="splice", tables=names)


def pins(found: SparkTables, choice: EngineChoice, plan: Planned, grants: Grants = ALL) -> Mapping[str, str] | None:
    run = asyncio.run(found.run(choice, plan, {"uat": environment("uat", snapshot())}, None, grants))
    return None if run is None else run.pins


def test_the_versions_are_those_of_the_generation_that_was_planned(publisher: Publisher) -> None:
    plan = planned(["uat_silver.orders", "uat_gold.sales"], 10)
    found = pins(tables(publishers={"uat": publisher}), spark, plan)
    assert found is not None
    assert set(found) == {"uat_silver.orders", "uat_gold.sales"}
    for name, version in found.items():
        assert metadata_of_version(version) is not None
        assert publisher.read(TableName(*name.split(".")), version) is not None
        assert publisher.read(TableName("uat_silver", "returns"), version) is None
    for unknown in ("", "1", "../x", "1-" + "0" * 32):
        assert publisher.read(TableName("uat_silver", "orders"), unknown) is None
    assert pins(tables(publishers={"uat": publisher}), spark, planned([])) == {}


def test_a_statement_over_an_older_generation_forgets_no_newer_table(publisher: Publisher) -> None:
    """It was planned before the table, whose metadata a client of the Iceberg catalog has loaded meanwhile."""
    made, newer = tables(publishers={"uat": publisher}), replace(snapshot(), generation=8)
    returns = newer.tables[TableName("uat_silver", "returns")]
    publisher.forget_dropped(newer)
    loaded = publisher.publish(returns, layouts_of(returns, newer.asset_states[returns.asset_key]))
    left = {name: table for name, table in snapshot().tables.items() if name != returns.name}
    older = {"uat": environment("uat", replace(snapshot(), generation=7, tables=MappingProxyType(left)))}
    assert asyncio.run(made.run(spark, planned(["uat_silver.orders"]), older, None, ALL)) is not None
    assert publisher.recent(returns.name, loaded.snapshot_id) is loaded


def test_auto_takes_spark_from_a_size_on(publisher: Publisher) -> None:
    found = tables(publishers={"uat": publisher}, spark_auto_bytes=100)
    assert pins(found, auto, planned(["uat_silver.orders"], 99)) is None
    assert pins(found, auto, planned(["uat_silver.orders"], 100)) is not None
    assert pins(found, auto, planned(["uat_silver.orders", "uat_gold.sales"], 50)) is not None
    assert pins(found, spark, planned(["uat_silver.orders"], 0)) is not None
    assert pins(found, auto, planned(None)) is None
    assert pins(found, spark, planned(None)) is None  # an EXPLAIN


@pytest.mark.parametrize("name", ["uat_silver.none", "uat_silver.seen"])
def test_a_table_that_is_not_there(publisher: Publisher, name: str) -> None:
    with pytest.raises(UnknownTableError):
        pins(tables(publishers={"uat": publisher}), spark, planned([name]))


def test_a_table_that_the_caller_may_not_read(publisher: Publisher) -> None:
    granted = Grants(frozenset({"uat_gold.sales"}))
    found = tables(publishers={"uat": publisher})
    assert pins(found, spark, planned(["uat_gold.sales"]), granted) is not None
    with pytest.raises(UnknownTableError):
        pins(found, spark, planned(["uat_silver.orders"]), granted)


@pytest.mark.parametrize(
    ("name", "text"), [("uat_silver.orders", "DAGFUSION_ICEBERG_METADATA"), ("uat_silver.half", "no column")]
)
def test_a_table_that_is_no_table_of_iceberg(publisher: Publisher, name: str, text: str) -> None:
    found = tables(publishers={} if "ICEBERG" in text else {"uat": publisher}, spark_auto_bytes=1)
    with pytest.raises(EngineChoiceError, match=text):
        pins(found, spark, planned([name], 10))
    assert pins(found, auto, planned([name], 10)) is None


def test_a_table_with_a_column_that_iceberg_has_not(publisher: Publisher) -> None:
    part = Part(("CA",), {"id": "int64", "h": "halffloat"}, {})
    folded = fold(EMPTY, [written(record(1, part, {"state": "string"}), 1, ("Silver", "orders"))])
    states = {"uat": environment("uat", Snapshot(1, "uat", folded.tables, MappingProxyType({}), folded.asset_states))}
    found, plan = tables(publishers={"uat": publisher}, spark_auto_bytes=1), planned(["uat_silver.orders"], 10)
    with pytest.raises(EngineChoiceError, match="because Iceberg has no column h "):
        asyncio.run(found.run(spark, plan, states, None, ALL))
    assert asyncio.run(found.run(auto, plan, states, None, ALL)) is None


def test_the_versions_of_the_past(publisher: Publisher) -> None:
    then = as_past(replace(snapshot(), generation=2))
    moments = [
        PastTable(table, Moment(2, 0), layouts_of(table, then.asset_states[table.asset_key]))
        for table in then.tables.values()
    ]
    found = FoundPast([("uat", past) for past in moments], ExitStack())
    plan, current = planned(["uat_silver.orders"], 10), {"uat": environment("uat", EMPTY)}
    made = tables(publishers={"uat": publisher})
    versions = []
    for _ in range(2):
        run = asyncio.run(made.run(spark, plan, current, found, ALL))
        assert run is not None
        versions.append(run.pins["uat_silver.orders"])
    assert versions[0] == versions[1]
    read = publisher.read(TableName("uat_silver", "orders"), versions[0])
    assert read is not None
    assert is_past_metadata(read[0].rpartition("/")[2])
    for name, granted in (
        ("uat_silver.none", ALL),
        ("uat_silver.seen", ALL),
        ("uat_silver.orders", Grants(frozenset())),
    ):
        with pytest.raises(UnknownTableError):
            asyncio.run(made.run(spark, planned([name]), current, found, granted))
