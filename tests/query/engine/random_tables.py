"""Random partitioned tables of every type that the engine has."""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa

from tests.query.engine.expressions import Column

Files = list[tuple[pa.Table, dict[str, pa.Scalar]]]

INF, NAN = float("inf"), float("nan")
DAYS = [dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2024, 2, 29), dt.date(1969, 12, 31)]
MOMENTS = [dt.datetime(2024, 1, 2, 3, 4, 5), dt.datetime(2024, 2, 29, 23, 59, 59, 999999), dt.datetime(1969, 12, 31)]  # noqa: DTZ001
STRINGS = ["CA", "a:b", "..", "100%", "ü/日本", "", "null", "o'x", "a b", "NaN", "\\"]
DECIMALS = [Decimal("1.50"), Decimal("-0.25"), Decimal("0.00"), Decimal("99.99")]
FLOATS = [0.0, -0.0, 1.5, -2.25, 7.0]
ODD_FLOATS = [*FLOATS, NAN, INF, -INF]
NATURALS = [0, 7, 255, 2**64 - 1]
AWARE = [moment.replace(tzinfo=dt.UTC) for moment in MOMENTS]

# A column's kind, the types that its files can have, and its values.
FILE_COLUMNS: Mapping[str, tuple[str, list[pa.DataType], list[Any]]] = {
    "i": ("int", [pa.int32(), pa.int64()], [*range(-3, 7)]),
    "j": ("int", [pa.int64()], [0, 1, 2]),
    "x": ("float", [pa.float64()], ODD_FLOATS),
    "y": ("float", [pa.float32(), pa.float64()], ODD_FLOATS),
    "z": ("float", [pa.float64()], FLOATS),
    "s": ("str", [pa.string()], STRINGS),
    "b": ("bool", [pa.bool_()], [True, False]),
    "d": ("date", [pa.date32()], DAYS),
    "ts": ("ts", [pa.timestamp("us")], MOMENTS),
    "tz": ("tz", [pa.timestamp("us", "UTC")], AWARE),
    "m": ("dec", [pa.decimal128(9, 2), pa.decimal128(12, 2)], DECIMALS),
    "big": ("big", [pa.uint64()], NATURALS),
    "st": ("struct", [pa.struct({"a": pa.int64()})], [{"a": 1}, {"a": None}, {"a": 5}]),
}
PARTITION_COLUMNS: Mapping[str, tuple[str, pa.DataType, list[Any]]] = {
    "ps": ("str", pa.string(), STRINGS),
    "pi": ("int", pa.int32(), [-1, 0, 2, 3]),
    "pu": ("big", pa.uint64(), NATURALS),
    "pd": ("date", pa.date32(), DAYS),
    "pb": ("bool", pa.bool_(), [True, False]),
    "pf": ("float", pa.float64(), [0.0, 1.5, -2.25]),
    "pm": ("dec", pa.decimal128(9, 2), DECIMALS),
    "pt": ("ts", pa.timestamp("us"), MOMENTS),
    "pz": ("tz", pa.timestamp("us", "UTC"), AWARE),
}


def random_files(rng: Random, *, negative_zeros: bool) -> Files:
    """Draw the files of a table: rows and partition values; the files of some tables differ in columns and types."""
    partition = rng.sample(sorted(PARTITION_COLUMNS), rng.choice([0, 1, 1, 2, 2, 3]))
    columns = [name for name in FILE_COLUMNS if rng.random() < 0.75]
    files: dict[tuple[Any, ...], tuple[pa.Table, dict[str, pa.Scalar]]] = {}
    first = 0
    null_share = rng.choice([0.0, 0.0, 0.15])  # a table with one is not read from large objects
    layout = _layout(rng, columns) if rng.random() < 0.5 else None
    for _ in range(rng.randint(1, 6) if layout is None else rng.randint(3, 10)):
        values = {name: _partition_value(rng, name, null_share) for name in partition}
        key = tuple(values[name].as_py() for name in partition)
        if key not in files:
            rows = _rows(rng, layout or _layout(rng, columns), first, negative_zeros=negative_zeros)
            files[key] = rows, values
            first += rows.num_rows
    return list(files.values())


def other_rows(rng: Random, files: Files, number: int, *, negative_zeros: bool) -> pa.Table:
    """Draw other rows for one file of a table; some files keep their ids and statistics, and so most of their sizes."""
    rows, _ = files[number]
    if rng.random() < 0.5:
        backwards = rows.take(pa.array(reversed(range(len(rows))), pa.int64()))
        return backwards.set_column(0, "id", rows["id"])
    known = {name for one, _ in files for name in one.column_names}
    first = max((used + 1 for one, _ in files for used in one["id"].to_pylist()), default=0)
    layout: Mapping[str, pa.DataType] = {field.name: field.type for field in rows.schema if field.name != "id"}
    if rng.random() < 0.5:
        layout = _layout(rng, [name for name in FILE_COLUMNS if name in known])
    drawn = _rows(rng, layout, first, negative_zeros=negative_zeros)
    return drawn.slice(0, max(len(rows), 8))  # so that joins of the tables do not grow


def columns_of(schema: pa.Schema) -> list[Column]:
    """Return the columns of a table as statements name them; `id` comes first."""
    found = [Column("id", "int", is_partition=False)]
    for name in schema.names:
        if name in PARTITION_COLUMNS:
            found.append(Column(name, PARTITION_COLUMNS[name][0], is_partition=True))
        elif name in FILE_COLUMNS:
            found.append(Column(name, FILE_COLUMNS[name][0], is_partition=False))
    if "st" in schema.names:
        found.append(Column("st['a']", "int", is_partition=False))
    return found


def whole(files: Files, schema: pa.Schema) -> pa.Table:
    """Return all rows in one schema; a column that a file lacks is NULL there."""
    tables = []
    for rows, values in files:
        count = rows.num_rows
        columns = [
            rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pa.array([values[field.name].as_py() if field.name in values else None] * count, field.type)
            for field in schema
        ]
        columns = [_null_below(column) if pa.types.is_struct(column.type) else column for column in columns]
        tables.append(pa.table(columns, schema))
    return pa.concat_tables(tables).combine_chunks()


def _null_below(column: pa.Array | pa.ChunkedArray) -> pa.StructArray:
    """Make the fields of NULL structs NULL, as files do: DataFusion 55 returns what is below (its issue 25120)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.StructArray.from_arrays(array.flatten(), fields=list(array.type), mask=array.is_null())


def _layout(rng: Random, columns: list[str]) -> Mapping[str, pa.DataType]:
    """Draw which of some columns a file has, and their types."""
    return {name: rng.choice(FILE_COLUMNS[name][1]) for name in columns if rng.random() < 0.85}


def _rows(rng: Random, layout: Mapping[str, pa.DataType], first: int, *, negative_zeros: bool) -> pa.Table:
    count = rng.choice([0, 1, 2, 3, 4, 6, 8, 140])  # row groups have 64 rows
    arrays = {"id": pa.array(range(first, first + count), pa.int64())}
    for name, kind in layout.items():
        _, _, values = FILE_COLUMNS[name]
        if not negative_zeros:
            values = [value for value in values if repr(value) != "-0.0"]
        few = rng.sample(values, rng.randint(1, len(values)))
        drawn = [None if rng.random() < 0.2 else rng.choice(few) for _ in range(count)]
        if name != "st" and rng.random() < 0.5:  # row groups of different bounds
            drawn.sort(key=_order(values))
        arrays[name] = pa.array(drawn, kind)
    return pa.table(arrays)


def _order(values: list[Any]) -> Callable[[Any], int]:
    return lambda value: next((n for n, other in enumerate(values) if other is value), -1)


def _partition_value(rng: Random, name: str, null_share: float) -> pa.Scalar:
    _, kind, values = PARTITION_COLUMNS[name]
    return pa.scalar(None if rng.random() < null_share else rng.choice(values), kind)
