"""Callers that see different tables have sessions of their own, which stay warm side by side."""

from dataclasses import replace
from types import MappingProxyType

import pyarrow as pa
import pytest

from dagfusion_client.errors import UnknownTableError
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.engine.session import SESSIONS
from tests.query.engine.conftest import Lake


def only(snapshot: Snapshot, *names: str) -> Snapshot:
    """A snapshot with some of its tables."""
    kept = {name: table for name, table in snapshot.tables.items() if name.table in names}
    return replace(snapshot, tables=MappingProxyType(kept))


@pytest.fixture
def tables(lake: Lake) -> Lake:
    for number in range(SESSIONS + 1):
        lake.write(("s", f"t{number}"), pa.table({"x": [number]}))
    return lake


def test_plans_of_several_scopes_are_kept_side_by_side(tables: Lake) -> None:
    scopes = [only(tables.snapshot, f"t{number}") for number in range(SESSIONS)]
    plans = [tables.engine.prepare(f"SELECT x FROM local_s.t{n}", None, scope) for n, scope in enumerate(scopes)]
    again = [tables.engine.prepare(f"SELECT x FROM local_s.t{n}", None, scope) for n, scope in enumerate(scopes)]
    assert all(one is other for one, other in zip(plans, again, strict=True))
    assert tables.engine.cached_plans == SESSIONS


def test_the_scope_used_longest_ago_is_dropped(tables: Lake) -> None:
    scopes = [only(tables.snapshot, f"t{number}") for number in range(SESSIONS + 1)]
    first = tables.engine.prepare("SELECT x FROM local_s.t0", None, scopes[0])
    for number, scope in enumerate(scopes[1:], 1):
        tables.engine.prepare(f"SELECT x FROM local_s.t{number}", None, scope)
    assert tables.engine.prepare("SELECT x FROM local_s.t0", None, scopes[0]) is not first


def test_a_scope_sees_only_its_tables_whatever_others_ask(tables: Lake) -> None:
    wide, narrow = tables.snapshot, only(tables.snapshot, "t0")
    tables.engine.prepare("SELECT x FROM local_s.t1", None, wide)
    with pytest.raises(UnknownTableError):
        tables.engine.prepare("SELECT x FROM local_s.t1", None, narrow)
    tables.engine.prepare("SELECT x FROM local_s.t1", None, wide)


def test_a_new_generation_of_one_scope_leaves_the_others_alone(tables: Lake) -> None:
    wide, narrow = tables.snapshot, only(tables.snapshot, "t0")
    kept = tables.engine.prepare("SELECT x FROM local_s.t0", None, narrow)
    tables.engine.prepare("SELECT x FROM local_s.t1", None, wide)
    tables.write(("s", "t1"), pa.table({"x": [100]}))
    newer = tables.engine.prepare("SELECT x FROM local_s.t1", None, tables.snapshot)
    assert newer.bound.snapshot is tables.snapshot
    assert tables.engine.prepare("SELECT x FROM local_s.t0", None, narrow) is kept


def test_information_schema_has_no_settings(tables: Lake) -> None:
    listed = tables.rows("SELECT table_name FROM information_schema.tables ORDER BY 1")
    assert [row["table_name"] for row in listed] == [f"t{number}" for number in range(SESSIONS + 1)]
    assert tables.rows("SELECT DISTINCT data_type AS t FROM information_schema.columns") == [{"t": "int64"}]
    with pytest.raises(UnknownTableError):
        tables.rows("SELECT * FROM information_schema.df_settings")
