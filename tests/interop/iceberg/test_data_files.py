"""The data files of a snapshot: each row is in one, whatever was consolidated and rewritten, and bounds are exact."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_interop.iceberg.data_files import SnapshotFiles, data_files
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_query.catalog.model import Table
from tests.query.scan.test_large_objects import consolidations, events, made
from tests.tiers import examples


def described(table: Table, statistics: list[Any] | None = None) -> Table:
    """The table with a partition value for each file, its event, and statistics of the column `x`."""
    numbers = table.files["event_id"].to_pylist()
    kind = pa.struct({"min": pa.int64(), "max": pa.int64(), "nulls": pa.int64()})
    given = statistics or [{"min": -number, "max": number, "nulls": 0} for number in numbers]
    columns = {
        "partition": pa.array([{"p": number} for number in numbers], pa.struct({"p": pa.int64()})),
        "stats": pa.array([{"x": one} for one in given], pa.struct({"x": kind})),
    }
    files = table.files
    for name, values in columns.items():
        files = files.set_column(files.schema.get_field_index(name), name, values)
    changed: dict[str, Any] = {**vars(table), "files": files, "file_schema": pa.schema({"x": pa.int64()})}
    return Table(**changed)


def found(table: Table, *, is_consolidated: bool = True) -> SnapshotFiles:
    return data_files(table, iceberg_schema(table, []), is_consolidated=is_consolidated)


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(300), deadline=None)
@given(events, consolidations, st.sets(st.integers(0, 5), max_size=1))
def test_each_row_is_in_one_data_file(
    current: list[int], logged: list[list[list[list[int]]]], wrong_times: set[int]
) -> None:
    table = described(made(current, logged, wrong_times))
    files = found(table)
    groups: dict[str, list[list[int]]] = {}
    for row in table.consolidated.to_pylist():
        groups.setdefault(row["uri"], []).append(row["events"])
    held = {uri: [event for group in groups[uri] for event in group] for uri in files.large["uri"].to_pylist()}
    small = [int(uri.rpartition("/")[2]) for uri in files.small["uri"].to_pylist()]
    assert sorted([*small, *(event for events in held.values() for event in events)]) == sorted(current)
    for row in files.large.to_pylist():
        of_object = held[row["uri"]]
        assert row["rows"] == sum(of_object)
        assert row["stats"]["p"] == {"min": min(of_object), "max": max(of_object), "nulls": 0}
        assert row["stats"]["x"] == {"min": -max(of_object), "max": max(of_object), "nulls": 0}
    assert files.count == len(small) + len(held)
    assert files.size_bytes == 10 * len(small) + 10_000 * len(held)


def test_an_object_is_a_data_file_only_as_a_whole() -> None:
    whole = [[[[1, 2], [3]]]]
    assert found(described(made([1, 2, 3], whole, set()))).count == 1
    assert found(described(made([1, 2, 4], whole, set()))).count == 3


def test_nothing_else_is_used() -> None:
    table = described(made([1, 2, 3], [[[[1, 2], [3]]]], set()))
    assert found(table, is_consolidated=False).count == 3
    without_ids = table.consolidated.set_column(
        table.consolidated.schema.get_field_index("has_field_ids"), "has_field_ids", pa.array([False, False])
    )
    assert found(Table(**{**vars(table), "consolidated": without_ids})).count == 3
    for kind in (pa.uint32(), pa.uint64(), pa.timestamp("us", "Europe/Berlin")):
        assert found(Table(**{**vars(table), "partition_schema": pa.schema({"p": kind})})).count == 3


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        ([(1, 2, 0), (5, 9, 1), (None, None, 3)], (1, 9, 4)),  # the last has only NULL
        ([(1, 2, 0), (5, 9, 1), (None, None, 2)], (None, None, 3)),
        ([(1, 2, 0), (5, 9, None), (3, 4, 0)], (1, 9, None)),
        ([(1, 2, 0), (5, None, 0), (3, 4, 0)], (1, None, 0)),
    ],
)
def test_bounds_are_those_of_all_files(statistics: list[tuple[Any, ...]], expected: tuple[Any, ...]) -> None:
    of_files = [dict(zip(("min", "max", "nulls"), one, strict=True)) for one in statistics]
    table = described(made([1, 2, 3], [[[[1, 2], [3]]]], set()), of_files)
    (row,) = found(table).large.to_pylist()
    assert tuple(row["stats"]["x"].values()) == expected


def test_files_without_rows_count_for_no_bound() -> None:
    table = described(made([0, 2, 3], [[[[0, 2], [3]]]], set()))
    (row,) = found(table).large.to_pylist()
    assert row["stats"]["p"] == {"min": 2, "max": 3, "nulls": 0}


def test_bounds_that_python_has_no_value_for_are_kept() -> None:
    first, kind = -62_135_596_800_000_000, pa.timestamp("us", "America/New_York")  # before the year 1 there
    table = described(made([1, 2, 3], [[[[1, 2], [3]]]], set()))
    statistics = table.files["stats"].combine_chunks().field("x")
    bounds = pa.array([first, first + 1, first + 2]).cast(kind)
    joined = pa.StructArray.from_arrays([bounds, bounds, statistics.field("nulls")], names=["min", "max", "nulls"])
    stats = pa.StructArray.from_arrays([joined], names=["x"])
    files = table.files.set_column(table.files.schema.get_field_index("stats"), "stats", stats)
    changed = Table(**{**vars(table), "files": files, "file_schema": pa.schema({"x": kind})})
    [bound] = found(changed).large["stats"].combine_chunks().field("x").field("min").cast(pa.int64()).to_pylist()
    assert bound == first
