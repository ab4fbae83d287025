"""The catalog as of past events, over both databases, beside a model of what was written."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.as_of import AsOf, read_as_of
from dagfusion_client.errors import AsOfError, NameCollisionError, PastError, UnknownPastError, UnknownTableError
from dagfusion_client.sql_text import mentioned_tables
from dagfusion_contract.naming import TableName, table_name
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.past_catalog import PastCatalog
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.stored_event import EventReader
from tests.query.catalog.following import Opened
from tests.tiers import examples
from tests.waiting import eventually

STATES = ("CA", "NY", "TX")
WIPE, WITH_ROWS, NO_FILE, REFUSED = "wipe", "with rows", "no file", "refused"
PATTERN_ROWS = 987_654_321  # which a copy replaces
# What happens to an asset: a partition is written, its event names no file or is refused, or all of it is wiped.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(STATES), st.integers(1, 9)),
        st.tuples(st.sampled_from(STATES), st.sampled_from([NO_FILE, REFUSED])),
        st.just((WIPE, 0)),
    ),
    min_size=1,
    max_size=12,
)
Rows = dict[str, int]


@dataclass
class Model:
    """What an asset held after each of its events, by the event's id."""

    now: Rows = field(default_factory=dict)
    after: dict[int, Rows] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


class Log:
    """Logs events: one of each kind through Dagster, and copies of these, which is faster.

    Args:
        deployment: Where.
        record: Makes records.
    """

    def __init__(self, deployment: Any, record: Callable[..., dict[str, Any]]) -> None:
        self.deployment, self.record = deployment, record
        self._assets, self._patterns = 0, {}
        for kind, pattern in {WITH_ROWS: record(rows=PATTERN_ROWS), REFUSED: record(version=2), NO_FILE: None}.items():
            deployment.report(pattern, "CA", ("Pattern", kind.replace(" ", "_")))
            self._patterns[kind] = self.last()

    def new_asset(self, key: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Make an asset that has no event yet, and return its key."""
        self._assets += 1
        key = key or ("Past", f"asset_{self._assets}")
        self._do("insert into asset_keys (asset_key) values ({0})", json.dumps(key))
        return key

    def write(self, key: tuple[str, ...], state: str, rows: int | str) -> int:
        """Log a materialization, and return its event's id."""
        kind = WITH_ROWS if isinstance(rows, int) else rows
        at = "clock_timestamp() at time zone 'utc'" if self.deployment.url else "strftime('%Y-%m-%d %H:%M:%f', 'now')"
        event = f"replace(event, '{PATTERN_ROWS}', '{rows}')"
        self._do(
            "insert into event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition) "
            f"select run_id, {event}, dagster_event_type, {at}, {{0}}, {{0}} from event_logs where id = {{0}}",
            *(json.dumps(key), f"2024-01-15|{state}", self._patterns[kind]),
        )
        return self.last()

    def last(self) -> int:
        """Return the id of the latest event."""
        return int(self._do("select max(id) from event_logs")[0][0])

    def _do(self, sql: str, *values: object) -> list[Any]:
        if self.deployment.url:
            with psycopg.connect(self.deployment.url) as connection:
                cursor = connection.execute(sql.format("%s").encode(), values)
                return cursor.fetchall() if cursor.description else []
        path = self.deployment.home / "history" / "runs" / "index.db"
        with closing(sqlite3.connect(path)) as file, file:
            return file.execute(sql.format("?"), values).fetchall()


@pytest.fixture
def written(deployment: Any, file_record: Callable[..., dict[str, Any]]) -> Log:
    return Log(deployment, file_record)


@pytest.fixture
def live(written: Log, catalog_of: Opened) -> LiveCatalog:
    written.deployment.report(written.record(partition=[]), key=("Other",))
    return catalog_of(written.deployment.open())


@pytest.fixture(params=[False, True], ids=["memory", "files"])
def past(request: pytest.FixtureRequest, live: LiveCatalog, written: Log) -> Iterator[PastCatalog]:
    made = PastCatalog(live, written.deployment.open, in_files=request.param)
    yield made
    made.close()


def held(past: PastCatalog, key: tuple[str, ...], as_of: AsOf) -> Rows:
    """Return the rows of each partition of an asset."""
    try:
        return rows_of(table_of(past, key, as_of))
    except UnknownTableError:
        return {}


def table_of(past: PastCatalog, key: tuple[str, ...], as_of: AsOf) -> Table:
    with past.tables(past.moment(as_of), [table_name("uat", key)]) as [found]:
        return found.table


def rows_of(table: Table) -> Rows:
    keys, rows = table.files["partition_key"].to_pylist(), table.files["rows"].to_pylist()
    return {key.partition("|")[2]: count for key, count in zip(keys, rows, strict=True)}


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, looks=st.randoms(use_true_random=False))
def test_a_table_as_of_any_event_is_what_it_was_then(
    steps: list[tuple[str, Any]], looks: Any, written: Log, live: LiveCatalog, past: PastCatalog
) -> None:
    key, model = written.new_asset(), Model()
    written.write(key, "CA", 1)
    model.now = {"CA": 1}
    model.after[written.last()] = dict(model.now)
    for state, what in steps:
        if state == WIPE:
            written.deployment.wipe(key)
            model.now = {}
            if not written.deployment.url:  # it forgets, and may give the ids again
                model.lost |= model.after.keys()
        else:
            written.write(key, state, what)
            if what == REFUSED:
                model.now.pop(state, None)
            elif what != NO_FILE:
                model.now[state] = what
        last = written.last()
        if state != WIPE or written.deployment.url:
            model.after[last] = dict(model.now)
            model.lost.discard(last)
        live.refresh()
        looked_at = looks.choice(sorted(model.after))
        check(past, key, model, looked_at)
    for event_id in model.after:
        check(past, key, model, event_id)
    now = live.refresh().tables.get(table_name("uat", key))
    assert ({} if now is None else rows_of(now)) == model.now


def check(past: PastCatalog, key: tuple[str, ...], model: Model, event_id: int) -> None:
    if event_id in model.lost:
        with pytest.raises((PastError, AsOfError)):
            held(past, key, AsOf(event_id=event_id))
    else:
        assert held(past, key, AsOf(event_id=event_id)) == model.after[event_id]


def test_a_time_stands_for_the_last_event_by_then(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    key = written.new_asset()
    ids = [written.write(key, "CA", rows) for rows in (1, 2, 3)]
    live.refresh()
    for rows, event_id in enumerate(ids, 1):
        at_us = past.moment(AsOf(event_id=event_id)).at_us
        assert past.moment(AsOf(at_us=at_us)).event_id == event_id
        assert past.moment(AsOf(at_us=at_us - 1)).event_id < event_id
        assert held(past, key, AsOf(at_us=at_us)) == {"CA": rows}
    assert past.moment(read_as_of("1999-12-31")).event_id == 0


def test_what_is_ahead_is_refused(written: Log, past: PastCatalog) -> None:
    with pytest.raises(AsOfError, match="in the future"):
        past.moment(AsOf(event_id=written.last() + 1))
    with pytest.raises(AsOfError, match="in the future"):
        past.moment(read_as_of("2999-01-01"))


def test_a_settled_past_is_read_once(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    key = written.new_asset()
    first = written.write(key, "CA", 1)
    written.write(key, "CA", 2)
    assert eventually(lambda: live.refresh() is not None and live.settled >= first)  # a second later on PostgreSQL
    table = table_of(past, key, AsOf(event_id=first))
    written.write(key, "CA", 3)
    live.refresh()
    assert table_of(past, key, AsOf(event_id=first)) is table
    assert (table.as_of, table.consolidated.num_rows) == (first, 0)


def test_a_table_that_was_not_there_yet_is_unknown(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    before = written.last()
    key = written.new_asset()
    written.write(key, "CA", 1)
    live.refresh()
    name = table_name("uat", key)
    moment = past.moment(AsOf(event_id=before))
    with pytest.raises(UnknownTableError, match=f"no table {name} as of event {before}"), past.tables(moment, [name]):
        pass
    with past.tables(moment, None) as found:
        names = {one.table.name for one in found}
    assert table_name("uat", ("Other",)) in names
    assert name not in names


def test_a_name_of_two_assets_is_an_error(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    one, other = written.new_asset(("Silver", "TwinX")), written.new_asset(("silver", "twin_x"))
    first, second = written.write(one, "CA", 1), written.write(other, "CA", 2)
    live.refresh()
    name = table_name("uat", one)
    both = past.moment(AsOf(event_id=second))

    assert held(past, one, AsOf(event_id=first)) == {"CA": 1}
    with pytest.raises(NameCollisionError, match="twin_x"), past.tables(both, [name]):
        pass
    with past.tables(both, None) as found:
        assert name not in {past.table.name for past in found}
    with pytest.raises(NameCollisionError):
        past.asset(name)
    assert not any(past.pins for past in past._tables._tables.values())


def test_a_wipe_without_an_event_hides_nothing_before_it(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    """Dagster writes the moment of a wipe first, and its event in another transaction."""
    key = written.new_asset()
    written.write(key, "CA", 1)
    written.deployment.wipe(key)
    middle = written.write(key, "CA", 2)
    written.deployment.instance.event_log_storage.wipe_asset(dg.AssetKey(list(key)))
    live.refresh()

    if written.deployment.url:
        assert held(past, key, AsOf(event_id=middle)) == {"CA": 2}
    else:  # it has forgotten what came before
        with pytest.raises((PastError, AsOfError)):
            held(past, key, AsOf(event_id=middle))


@pytest.mark.usefixtures("heavy")
def test_objects_of_other_io_managers_have_no_past(on_sqlite: Any, catalog_of: Opened, tmp_path: Path) -> None:
    path = dg.MetadataValue.path(str(tmp_path / "a.parquet"))
    on_sqlite.instance.report_runless_asset_event(dg.AssetMaterialization("foreign", metadata={"path": path}))

    def opened() -> Any:
        return open_event_log(str(on_sqlite.home), records=EventReader(["path"]))

    past = PastCatalog(catalog_of(opened()), opened)
    with pytest.raises(UnknownPastError, match="another IO manager"):
        past._made(("foreign",), past.moment(AsOf(event_id=1)))
    past.close()


def test_revisions_are_listed(written: Log, live: LiveCatalog, past: PastCatalog) -> None:
    run_id = written.deployment.materialize(written.record(partition=[], rows=5), key="made")
    second = written.deployment.materialize(written.record(partition=[], rows=7), key="made")
    found = past.revisions(("made",), 10)
    assert [(one.run_id, one.partitions, one.rows, one.is_wipe) for one in found] == [
        (second, 1, 7, False),
        (run_id, 1, 5, False),
    ]
    assert all(one.first_at == one.at for one in found)
    assert [one.event_id for one in past.revisions(("made",), 1)] == [found[0].event_id]
    assert rows_total(table_of(past, ("made",), AsOf(event_id=found[1].event_id))) == 5
    written.deployment.wipe(("made",))
    live.refresh()
    after = past.revisions(("made",), 10)
    assert [one.is_wipe for one in after] == ([True, False, False] if written.deployment.url else [])


def test_a_tombstone_is_a_wipe_in_the_list_and_gone_as_of_its_event(
    written: Log, live: LiveCatalog, past: PastCatalog
) -> None:
    key = written.new_asset()
    written.write(key, "CA", 3)
    both = written.write(key, "NY", 5)
    written.deployment.bury("2024-01-15|CA", key)
    live.refresh()
    found = past.revisions(key, 1)
    assert [(one.partitions, one.rows, one.is_wipe) for one in found] == [(1, 0, True)]
    assert rows_total(table_of(past, key, AsOf(event_id=both))) == 8
    assert rows_total(table_of(past, key, AsOf(event_id=found[0].event_id))) == 5


def test_a_generation_has_the_times_of_its_first_and_last_events(written: Log, past: PastCatalog) -> None:
    key = written.new_asset()
    alone = [written.write(key, state, 3) for state in STATES]
    times = [one.at for one in reversed(past.revisions(key, 10))]
    assert len(times) == len(STATES)
    written._do("update event_logs set run_id = 'backfill' where asset_key = {0}", json.dumps(key))
    (found,) = past.revisions(key, 10)
    assert (found.event_id, found.run_id, found.partitions) == (alone[-1], "backfill", len(STATES))
    assert (found.first_at, found.at) == (times[0], times[-1])


def rows_total(table: Table) -> int:
    return sum(table.files["rows"].to_pylist())


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select * from a.b", ["a.b"]),
        ('select t.x from "A"."b" t', ["A.b", "t.x"]),
        ("select 'c.d', /* e.f */ 1 from datafusion.a.b -- g.h", ["a.b", "datafusion.a"]),
        ("select 1", []),
        ("select 1 as information_schema", []),
        ("select * from information_schema.tables", None),
        ("SHOW TABLES", None),
    ],
)
def test_names_that_may_be_tables_are_found(sql: str, found: list[str] | None) -> None:
    names = mentioned_tables(sql)
    assert (None if names is None else sorted(map(str, names))) == found
    assert names is None or all(isinstance(name, TableName) for name in names)


@pytest.mark.parametrize(
    "given", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "soon", "", "0", "1" * 200]
)
def test_what_is_no_time_and_no_id_is_refused(given: str) -> None:
    with pytest.raises(AsOfError, match="must be the id of an event"):
        read_as_of(given)
