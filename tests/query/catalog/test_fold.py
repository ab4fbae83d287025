"""The pure fold: what one event does to a table, and what is reported of a bad one."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dagfusion_client.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.naming import TableName
from dagfusion_contract.tombstone import Tombstone
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import files_schema
from dagfusion_query.event_log.event_log_interface import Materialization, Wipe
from tests.query.catalog.folding import EMPTY, NAME, ORGS, Record, column, schema, table, written


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


def test_a_file_has_the_checksum_of_its_record_or_none(file_record: Record) -> None:
    checksum = f"sha256:{'0f' * 32}"
    found = table(fold(EMPTY, [written(file_record("CA", checksum=checksum), 1), written(file_record("NY"), 2)]))
    assert found.files.sort_by("event_id")["checksum"].to_pylist() == [checksum, None]


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


def test_a_later_event_without_a_file_hides_nothing_and_is_told(file_record: Record) -> None:
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2)]
    fileless = Materialization(ORGS, 3, "CA|2024-01-15", 3_000_000, "run", None)
    for snapshot in (fold(fold(EMPTY, events), [fileless]), fold(fold(EMPTY, [fileless]), events)):
        assert sorted(table(snapshot).files["event_id"].to_pylist()) == [1, 2]
        (warning,) = table(snapshot).warnings
        assert str(warning) == (
            f"table {NAME} shows an earlier materialization of partition 'CA|2024-01-15': the latest one names no file "
            "(event 3 of partition 'CA|2024-01-15', 1970-01-01 00:00:03 UTC)"
        )
        assert table(fold(snapshot, [written(file_record("CA"), 4)])).warnings == ()


def test_an_event_without_a_file_does_not_cure_a_refused_one(file_record: Record) -> None:
    refused = Materialization(ORGS, 2, "CA|2024-01-15", 2, "run", MalformedRecordError("dagfusion/file.rows must be"))
    events = [written(file_record("CA"), 1), refused, Materialization(ORGS, 3, "CA|2024-01-15", 3, "run", None)]
    found = table(fold(EMPTY, events))
    assert len(found.files) == 0
    (warning,) = found.warnings
    assert "leaves out partition 'CA|2024-01-15', whose event 2 cannot be used" in str(warning)


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


def test_a_tombstone_hides_its_partition_until_it_is_written_again(file_record: Record) -> None:
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2)]
    wiped = fold(fold(EMPTY, events), [tombstone("CA|2024-01-15", 3)])
    assert table(wiped).files["event_id"].to_pylist() == [2]
    assert table(wiped).warnings == ()
    assert fold(wiped, events) is wiped, "wiped events stay wiped when they are seen again"

    bare = fold(wiped, [Materialization(ORGS, 4, "CA|2024-01-15", 4_000_000, "run", None)])
    assert table(bare).files["event_id"].to_pylist() == [2], "an event without a file changes nothing"
    again = fold(bare, [written(file_record("CA"), 5)])
    assert sorted(table(again).files["event_id"].to_pylist()) == [2, 5]


def test_a_table_whose_partitions_all_have_tombstones_is_gone(file_record: Record) -> None:
    events = [written(file_record("CA"), 1), tombstone("CA|2024-01-15", 2)]
    assert fold(EMPTY, events).tables == {}


def test_a_tombstone_of_a_newer_version_hides_its_partition_with_a_warning(file_record: Record) -> None:
    newer = tombstone("CA|2024-01-15", 3)._replace(file=RecordVersionError("dagfusion/tombstone.version must be 1"))
    found = table(fold(EMPTY, [written(file_record("CA"), 1), written(file_record("NY"), 2), newer]))
    assert found.files["event_id"].to_pylist() == [2]
    assert "dagfusion/tombstone.version must be 1" in str(found.warnings[0])


def tombstone(partition_key: str, event_id: int) -> Materialization:
    return Materialization(ORGS, event_id, partition_key, event_id * 1000, "run", Tombstone("wiped"))
