import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.model import Snapshot, Table, files_schema
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.errors import MalformedRecordError, NameCollisionError, SchemaConflictError
from dagfusion_query.event_log.protocol import Event, Materialization, Wipe
from dagfusion_query.event_log.record import DataFile, RecordReader

Record = Callable[..., dict[str, Any]]
ORGS = ("Silver", "TaxID", "orgs")
NAME = TableName("uat_silver_tax_id", "orgs")
EMPTY = Snapshot(0, "uat")
READER = RecordReader()


def written(
    record: dict[str, Any], event_id: int, key: tuple[str, ...] = ORGS, at_us: int | None = None
) -> Materialization:
    partition = "|".join(str(column["value"]) for column in record["partition"]) or None
    return Materialization(
        key, event_id, partition, event_id * 1000 if at_us is None else at_us, "run", READER.read(record)
    )


def column(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True}


def schema(*columns: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": "-".join(str(c) for c in columns), "fields": list(columns)}


def table(snapshot: Snapshot) -> Table:
    (found,) = snapshot.tables.values()
    return found


def seen(snapshot: Snapshot) -> dict[str, Any]:
    """All of a snapshot that a query or a person can see, in an order of its own."""
    return {
        **{str(name): str(problem) for name, problem in snapshot.problems.items()},
        **{
            str(name): (
                table.asset_key,
                table.file_schema,
                table.partition_schema,
                table.schema_id,
                table.files.sort_by("event_id").to_pylist(),
                str(table.problem),
                [str(warning) for warning in table.warnings],
            )
            for name, table in snapshot.tables.items()
        },
    }


def test_a_materialization_becomes_a_row(file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(), 7)])
    found = table(snapshot)
    assert (found.name, found.asset_key, found.problem, found.warnings) == (NAME, ORGS, None, ())
    assert found.file_schema == pa.schema({"npi": pa.int64(), "name": pa.string()})
    assert found.partition_schema == pa.schema({"state": pa.string(), "date": pa.date32()})
    bounds = {
        name: pa.struct({"min": kind, "max": kind, "nulls": pa.int64()})
        for name, kind in (("npi", pa.int64()), ("name", pa.string()))
    }
    assert found.files.schema == files_schema(found.partition_schema, pa.struct(bounds))
    (row,) = found.files.to_pylist()
    assert (row["event_id"], row["partition_key"], row["rows"], row["size_bytes"]) == (7, "CA|2024-01-15", 321, 12345)
    assert row["stats"] == {"npi": {"min": 1, "max": 9, "nulls": 0}, "name": {"min": None, "max": None, "nulls": 3}}
    assert str(row["partition"]["date"]) == "2024-01-15"
    assert row["modified"].isoformat() == "2024-01-15T12:00:00.123456+00:00"
    assert row["entry"].endswith(found.files["entry"][0].as_py()[-4:])


def test_the_later_event_of_a_partition_replaces_the_earlier(file_record: Record) -> None:
    first = fold(EMPTY, [written(file_record(rows=1), 1), written(file_record("NY", rows=5), 2)])
    second = fold(first, [written(file_record(rows=2), 3)])
    assert sorted(table(second).files["rows"].to_pylist()) == [2, 5]
    assert sorted(table(first).files["rows"].to_pylist()) == [1, 5], "a generation never changes"
    assert fold(second, [written(file_record(rows=1), 1)]) is second


def test_what_did_not_change_stays_the_same_object(file_record: Record) -> None:
    other = ("Silver", "other")
    first = fold(EMPTY, [written(file_record(), 1), written(file_record(), 2, other)])
    second = fold(first, [written(file_record("NY"), 3)])
    assert second.generation == first.generation + 1
    name = TableName("uat_silver", "other")
    assert second.tables[name] is first.tables[name]
    assert second.tables[NAME] is not first.tables[NAME]


def test_an_unpartitioned_asset_has_one_row(file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(partition=[], rows=rows), rows) for rows in (1, 2, 3)])
    assert table(snapshot).files["rows"].to_pylist() == [3]
    assert len(table(snapshot).partition_schema) == 0
    assert table(snapshot).files["partition_key"].to_pylist() == [None]


def test_a_wipe_hides_what_was_there_and_not_what_comes(file_record: Record) -> None:
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2)]
    wiped = fold(fold(EMPTY, events), [Wipe(ORGS, 2000)])
    assert wiped.tables == {}
    assert fold(wiped, events) is wiped, "wiped events stay wiped when they are seen again"
    again = fold(wiped, [written(file_record("TX"), 3)])
    assert table(again).files["event_id"].to_pylist() == [3]


def test_an_asset_that_is_not_ours_is_no_table() -> None:
    assert fold(EMPTY, [Materialization(("x",), 1, None, 1, "run", None)]).tables == {}


def test_a_later_event_without_a_file_takes_the_partition_away(file_record: Record) -> None:
    first = fold(EMPTY, [written(file_record("CA"), 1), written(file_record("NY"), 2)])
    bare = Materialization(ORGS, 3, "CA|2024-01-15", 3000, "run", None)
    assert table(fold(first, [bare])).files["event_id"].to_pylist() == [2]
    assert table(fold(fold(EMPTY, [bare]), [written(file_record("CA"), 1), written(file_record("NY"), 2)])).files[
        "event_id"
    ].to_pylist() == [2]


def test_a_bad_event_hides_its_own_partition_only(file_record: Record) -> None:
    bad = Materialization(
        ORGS, 3, "TX|2024-01-15", 3000, "run", MalformedRecordError("dagfusion/file.rows must be ...")
    )
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2), bad]
    found = table(fold(EMPTY, events))
    assert found.problem is None
    assert sorted(found.files["event_id"].to_pylist()) == [1, 2]
    (warning,) = found.warnings
    assert "partition 'TX|2024-01-15', whose event 3 cannot be used: dagfusion/file.rows must be" in str(warning)
    cured = fold(fold(EMPTY, events), [written(file_record("TX"), 4)])
    assert table(cured).warnings == ()


def test_a_table_of_bad_events_only_says_so() -> None:
    bad = Materialization(ORGS, 3, None, 3000, "run", MalformedRecordError("dagfusion/file.rows must be ..."))
    found = table(fold(EMPTY, [bad]))
    assert found.problem is not None
    assert "the unpartitioned materialization" in str(found.problem)
    assert fold(fold(EMPTY, [bad]), [Wipe(ORGS, 3000)]).tables == {}


def by_state_and_date(state: object, date: str) -> list[dict[str, Any]]:
    return [
        {"name": "state", "type": "string", "value": state},
        {"name": "date", "type": "date32[day]", "value": date},
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modified": "yesterday"}, "dagfusion/file.modified must be .* got 'yesterday'"),
        ({"modified": "2024-01-15T12:00:00"}, "dagfusion/file.modified must be"),
        ({"modified": "9999-01-01T00:00:00Z"}, "modified must be before the year 2262"),
        ({"partition": by_state_and_date(3, "2024-01-15")}, r"partition\[0\].value must be .* got 3"),
        ({"partition": by_state_and_date("CA", "2024-13-01")}, r"partition\[1\].value must be .*'2024-13-01'"),
        ({"columns": {"npi": 5}}, "columns.npi must be an object"),
        ({"columns": {"npi": {"min": "1"}}}, "columns.npi.min must be .* int64 .* got '1'"),
        ({"columns": {"npi": {"max": 1.5}}}, "columns.npi.max must be .* int64 .* got 1.5"),
        ({"columns": {"npi": {"max": 1 << 63}}}, "columns.npi.max must be"),
        ({"columns": {"npi": {"max": True}}}, "columns.npi.max must be .* got True"),
        ({"columns": {"name": {"nulls": "3"}}}, "columns.name.nulls must be"),
    ],
)
def test_values_that_do_not_convert_are_blamed_one_by_one(
    file_record: Record, change: dict[str, Any], says: str
) -> None:
    bad = written(file_record(**change), 50)._replace(partition_key="bad")
    events = [*(written(file_record(f"S{number}"), number) for number in range(1, 20)), bad]
    found = table(fold(EMPTY, events))
    assert sorted(found.files["event_id"].to_pylist()) == list(range(1, 20))
    (warning,) = found.warnings
    assert pc.match_substring_regex(pa.scalar(str(warning)), says).as_py(), str(warning)
    assert "partition 'bad'" in str(warning)


def test_a_partition_type_that_no_scan_can_carry_is_a_warning(file_record: Record) -> None:
    partition = [{"name": "at", "type": "time64[us]", "value": "12:00:00"}]
    found = table(fold(EMPTY, [written(file_record(partition=partition), 1)]))
    assert "cast it in the asset" in str(found.problem)


STATISTICS: list[tuple[str, object, object]] = [
    ("bool", False, True),
    ("int8", -128, 127),
    ("uint64", 0, (1 << 64) - 1),
    ("double", -1e300, 2),
    ("float", 1.5, 2.5),
    ("string", "Äbc", "日本"),
    ("decimal128(12, 2)", "-0.01", "9999999999.99"),
    ("date32[day]", "1899-12-31", "2024-02-29"),
    ("timestamp[us]", "2024-01-15T12:00:00.123456", "2024-01-15T12:00:00.123457"),
    ("timestamp[ns]", "2024-01-15T12:00:00.123456789", "2024-01-15T12:00:01"),
    ("timestamp[ms, tz=UTC]", "2024-01-15T12:00:00.123Z", "2024-01-15T12:00:01Z"),
    ("timestamp[us, tz=America/New_York]", "2024-01-15T12:00:00Z", "2024-01-15T12:00:01Z"),
    ("time64[us]", "00:00:00.000001", "23:59:59"),
    ("time32[s]", "00:00:00", "23:59:59"),
    ("null", None, None),
]


@pytest.mark.parametrize(("kind", "low", "high"), STATISTICS, ids=[kind for kind, _, _ in STATISTICS])
def test_statistics_are_typed_as_the_column(file_record: Record, kind: str, low: object, high: object) -> None:
    record = file_record(schema=schema(column("x", kind)), columns={"x": {"min": low, "max": high, "nulls": 2}})
    found = table(fold(EMPTY, [written(record, 1)]))
    assert found.warnings == ()
    stats = found.files["stats"].combine_chunks().field("x")
    assert str(stats.field("min").type) == kind
    if low is None:
        assert stats.field("min").null_count == 1
    else:
        assert pc.less_equal(stats.field("min"), stats.field("max")).to_pylist() == [True]
    assert stats.field("nulls").to_pylist() == [2]


def test_columns_without_an_order_have_no_statistics(file_record: Record) -> None:
    columns = [column("b", "binary"), column("d", "duration[us]"), column("l", {"list": column("item", "int64")})]
    record = file_record(schema=schema(*columns), columns={name: {"nulls": 0} for name in "bdl"})
    found = table(fold(EMPTY, [written(record, 1)]))
    assert found.files.schema.field("stats").type == pa.struct([])
    assert found.files["stats"].to_pylist() == [{}]


# ---- schemas that change


def evolved(file_record: Record, *kinds: Any) -> Table:
    events = [
        written(file_record(f"S{i}", schema=schema(column("x", kind)), columns={"x": {"nulls": i}}), i)
        for i, kind in enumerate(kinds, 1)
    ]
    return table(fold(EMPTY, events))


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (["int8", "int64"], "int64"),
        (["int32", "uint32"], "int64"),
        (["uint8", "int8"], "int16"),
        (["int64", "uint64"], "decimal128(20, 0)"),
        (["int64", "double"], "double"),
        (["int16", "float"], "float"),
        (["int32", "float"], "double"),
        (["float", "double"], "double"),
        (["int64", "uint64", "double"], "double"),
        (["decimal128(12, 2)", "decimal128(10, 4)"], "decimal128(14, 4)"),
        (["decimal128(38, 0)", "decimal128(38, 38)"], "decimal256(76, 38)"),
        (["int32", "decimal128(5, 2)"], "decimal128(12, 2)"),
        (["decimal128(5, 2)", "double"], "double"),
        (["timestamp[s]", "timestamp[us]", "timestamp[ms]"], "timestamp[us]"),
        (["timestamp[ms, tz=UTC]", "timestamp[ns, tz=UTC]"], "timestamp[ns, tz=UTC]"),
        (["timestamp[us, tz=UTC]", "timestamp[us, tz=Europe/Berlin]"], "timestamp[us, tz=UTC]"),
        (["date32[day]", "date64[ms]"], "date64[ms]"),
        (["time32[s]", "time64[us]"], "time64[us]"),
        (["duration[s]", "duration[ms]"], "duration[ms]"),
        (["null", "string"], "string"),
        (["null", "null"], "null"),
        (["string", "large_string", "string_view"], "string"),
        (["binary", "large_binary"], "binary"),
    ],
)
def test_types_widen_to_the_narrowest_that_holds_them(file_record: Record, kinds: list[str], common: str) -> None:
    for order in itertools.permutations(kinds):
        found = evolved(file_record, *order)
        assert found.problem is None
        assert str(found.file_schema.field("x").type) == common
        assert len(found.files) == len(kinds)


def test_nested_types_unify_inside(file_record: Record) -> None:
    narrow = {"struct": [column("a", "int32"), column("b", {"list": column("item", "null")})]}
    wide = {"struct": [column("a", "int64"), column("b", {"list": column("item", "string")}), column("c", "bool")]}
    inside = evolved(file_record, narrow, wide).file_schema.field("x").type
    assert inside == pa.struct({"a": pa.int64(), "b": pa.list_(pa.field("item", pa.string())), "c": pa.bool_()})
    maps = [{"map": [column("key", "string"), column("value", kind)]} for kind in ("int32", "double")]
    assert evolved(file_record, *maps).file_schema.field("x").type == pa.map_(pa.string(), pa.float64())


@pytest.mark.parametrize(
    "kinds",
    [
        ["int64", "string"],
        ["bool", "int64"],
        ["date32[day]", "timestamp[us]"],
        ["timestamp[us]", "timestamp[us, tz=UTC]"],
        ["string", "binary"],
        ["decimal256(76, 0)", "decimal256(76, 76)"],
        ["time32[s]", "duration[s]"],
        ["int64", {"list": {"name": "item", "type": "int64", "nullable": True}}],
    ],
)
def test_a_true_conflict_names_columns_and_partitions_of_both_sides(file_record: Record, kinds: list[Any]) -> None:
    found = evolved(file_record, kinds[0], kinds[1], kinds[1], kinds[1], kinds[1])
    assert isinstance(found.problem, SchemaConflictError)
    text = str(found.problem)
    assert "column 'x' is" in text
    assert f"{found.name} " in text
    assert "in partition 'S1|2024-01-15'" in text
    assert "partition 'S2|2024-01-15', partition 'S3|2024-01-15', partition 'S4|2024-01-15' and 1 more" in text
    assert "materialize the partitions of one side again" in text
    assert len(found.files) == 0


def test_a_conflict_goes_when_its_partition_is_written_again(file_record: Record) -> None:
    def of(state: str, kind: str, event_id: int) -> Materialization:
        return written(file_record(state, schema=schema(column("x", kind)), columns={}), event_id)

    other = ("Silver", "other")
    conflict = fold(EMPTY, [of("CA", "int64", 1), of("NY", "string", 2), written(file_record(), 3, other)])
    assert conflict.tables[NAME].problem is not None
    assert conflict.tables[TableName("uat_silver", "other")].problem is None, "a conflict hides nothing else"
    cured = fold(conflict, [of("CA", "string", 4)])
    assert cured.tables[NAME].problem is None
    assert cured.tables[NAME].file_schema == pa.schema({"x": pa.string()})
    assert sorted(cured.tables[NAME].files["event_id"].to_pylist()) == [2, 4]


def test_partition_columns_that_disagree_name_both_sides(file_record: Record) -> None:
    by_date = [{"name": "date", "type": "date32[day]", "value": "2024-01-16"}]
    found = table(fold(EMPTY, [written(file_record(), 1), written(file_record(partition=by_date), 2)]))
    text = str(found.problem)
    assert "(state string, date date32[day]) in partition 'CA|2024-01-15'" in text
    assert "(date date32[day]) in partition '2024-01-16'" in text
    assert "wipe the asset" in text


def test_added_and_dropped_columns_are_null_where_they_are_missing(file_record: Record) -> None:
    a, b, c = column("a", "int64"), column("b", "string"), column("c", "int32")
    old = file_record("CA", schema=schema(a, b), columns={"a": {"min": 1, "max": 2, "nulls": 0}, "b": {"nulls": 0}})
    new = file_record(
        "NY",
        schema=schema(a, c),
        columns={"a": {"min": 5, "max": 6, "nulls": 0}, "c": {"min": 1, "max": 1, "nulls": 0}},
    )
    for events in itertools.permutations([written(old, 1), written(new, 2)]):
        found = table(fold(EMPTY, events))
        assert found.file_schema == pa.schema({"a": pa.int64(), "b": pa.string(), "c": pa.int32()})
        rows = {row["event_id"]: row["stats"] for row in found.files.to_pylist()}
        assert rows[1]["c"] == {"min": None, "max": None, "nulls": 321}, "a missing column is NULL in every row"
        assert rows[2]["b"] == {"min": None, "max": None, "nulls": 321}
        assert rows[2]["a"] == {"min": 5, "max": 6, "nulls": 0}


def test_bounds_that_a_wider_type_cannot_hold_become_unknown(file_record: Record) -> None:
    far = {"x": {"min": "2024-01-01T00:00:00", "max": "9999-12-31T00:00:00", "nulls": 0}}
    near = {"x": {"min": "2024-01-01T00:00:00", "max": "2024-01-02T00:00:00", "nulls": 0}}
    events = [
        written(file_record("CA", schema=schema(column("x", "timestamp[us]")), columns=far), 1),
        written(file_record("NY", schema=schema(column("x", "timestamp[ns]")), columns=near), 2),
    ]
    found = table(fold(EMPTY, events))
    highest = found.files["stats"].combine_chunks().field("x").field("max")
    assert found.file_schema.field("x").type == pa.timestamp("ns")
    assert highest.null_count == 1


def test_two_keys_on_one_name_are_an_error_that_names_both(file_record: Record) -> None:
    twin, other = ("Silver", "tax_id", "orgs"), ("Silver", "other")
    events = [written(file_record(), 1), written(file_record(), 2, twin), written(file_record(), 3, other)]
    snapshot = fold(EMPTY, events)
    assert list(snapshot.tables) == [TableName("uat_silver", "other")]
    problem = snapshot.problems[NAME]
    assert isinstance(problem, NameCollisionError)
    assert "['Silver', 'TaxID', 'orgs'] and ['Silver', 'tax_id', 'orgs']" in str(problem)
    apart = fold(snapshot, [Wipe(twin, 2000)])
    assert apart.problems == {}
    assert apart.tables[NAME].asset_key == ORGS


# ---- any order, any repetition

KEYS = (ORGS, ("Silver", "TaxID", "Orgs"), ("Gold", "x"))
COLUMNS = (
    schema(column("x", "int32")),
    schema(column("x", "int64"), column("y", "string")),
    schema(column("x", "string")),
)


@st.composite
def histories(draw: st.DrawFn, record: Record) -> list[Event]:
    events: list[Event] = []
    for event_id in range(1, draw(st.integers(1, 12)) + 1):
        key = draw(st.sampled_from(KEYS))
        at_us = draw(st.integers(1, 12))
        kind = draw(st.sampled_from(["file", "file", "file", "file", "wipe", "bare", "refused", "unreadable"]))
        state = draw(st.sampled_from(["CA", "NY", "TX"]))
        if kind == "wipe":
            events.append(Wipe(key, at_us))
            continue
        change = {"modified": "never"} if kind == "unreadable" else {}
        file = record(state, schema=draw(st.sampled_from(COLUMNS)), columns={}, rows=event_id, **change)
        event = written(file, event_id, key, at_us)
        if kind == "bare":
            event = event._replace(file=None)
        elif kind == "refused":
            event = event._replace(file=MalformedRecordError(f"refused {event_id}"))
        events.append(event)
    return events


def expected_ids(events: Sequence[Event], key: tuple[str, ...]) -> set[int]:
    """What counts, worked out one event at a time."""
    wiped_at = max((e.at_us for e in events if isinstance(e, Wipe) and e.asset_key == key), default=0)
    latest: dict[str | None, Materialization] = {}
    for event in events:
        if isinstance(event, Materialization) and event.asset_key == key:
            known = latest.get(event.partition_key, event)
            latest[event.partition_key] = max(known, event, key=lambda e: e.event_id)
    readable = (e for e in latest.values() if isinstance(e.file, DataFile) and e.file.modified != "never")
    return {event.event_id for event in readable if event.at_us > wiped_at}


@settings(max_examples=300)
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same_snapshot(file_record: Record, data: st.DataObject) -> None:
    events = data.draw(histories(file_record))
    snapshot = fold(EMPTY, events)
    for key in KEYS:
        live = snapshot.ledgers[key].segments if key in snapshot.ledgers else ()
        ids = {event_id for segment in live for rows in segment.live() for event_id in rows["event_id"].to_pylist()}
        assert ids == expected_ids(events, key)
    replayed = EMPTY
    order = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=5))))
    while order:
        size = data.draw(st.integers(1, len(order)))
        replayed, order = fold(replayed, order[:size]), order[size:]
    assert seen(replayed) == seen(snapshot)
    assert fold(replayed, events) is replayed
    assert adopt(replayed, snapshot) is replayed


@settings(max_examples=20)
@given(data=st.data())
def test_many_small_folds_are_compacted_to_the_same(file_record: Record, data: st.DataObject) -> None:
    states = data.draw(st.lists(st.sampled_from([f"S{i}" for i in range(60)]), min_size=1, max_size=150))
    events = [written(file_record(state, rows=i), i) for i, state in enumerate(states, 1)]
    one_by_one = EMPTY
    for event in events:
        one_by_one = fold(one_by_one, [event])
    assert seen(one_by_one) == seen(fold(EMPTY, events))
    assert len(one_by_one.ledgers[ORGS].segments) <= 16


def test_one_event_into_a_large_table_copies_next_to_nothing(file_record: Record) -> None:
    one = written(file_record(), 1)
    assert isinstance(one.file, DataFile)
    many = [one._replace(event_id=number, partition_key=f"p{number}") for number in range(1, 60_001)]
    large = fold(EMPTY, many)
    assert table(large).files.nbytes > 10_000_000
    before = pa.total_allocated_bytes()
    added = fold(large, [one._replace(event_id=70_000, partition_key="new")])
    replaced = fold(added, [one._replace(event_id=70_001, partition_key="p30000")])
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert len(table(replaced).files) == 60_001
    assert pc.sum(table(replaced).files["event_id"]).as_py() == sum(range(60_001)) - 30_000 + 70_000 + 70_001


def test_adopting_a_full_sync_keeps_what_holds_the_same(file_record: Record) -> None:
    other, gone = ("Silver", "other"), ("Silver", "gone")
    events = [written(file_record(), 1), written(file_record(), 2, other), written(file_record(), 3, gone)]
    old = fold(EMPTY, events)
    new = fold(EMPTY, [events[0], written(file_record("NY"), 4, other)])
    adopted = adopt(old, new)
    assert adopted.generation == old.generation + 1
    assert adopted.tables[NAME] is old.tables[NAME]
    assert seen(adopted) == seen(new)
    assert TableName("uat_silver", "gone") not in adopted.tables
