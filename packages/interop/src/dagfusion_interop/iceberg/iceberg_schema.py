"""A table's columns as an Iceberg schema, partition spec and name mapping, with the types of Iceberg version 2. Pure.

A type without an exact counterpart is refused with the reason.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from dagfusion_contract.field_ids import Path, field_id, unread_id
from dagfusion_contract.record import Layout
from dagfusion_query.catalog.model import Table

SCHEMA_ID = 0
SPEC_ID, LARGE_SPEC_ID = 0, 1
_FIRST_PARTITION_FIELD = 1000
_MAX_BOUNDED = 100  # columns, as Iceberg's writers limit them
# Bounds in all manifests of a table: columns times files. DuckDB 1.5 reads every entry for every query: a point query
# of 18,250 files takes four times as long with the bounds of nine columns as with none.
_MAX_BOUNDS = 1 << 16
_OTHER = re.compile(r"[^A-Za-z0-9_]")

_PLAIN: Mapping[pa.DataType, str] = {
    pa.bool_(): "boolean",
    **dict.fromkeys((pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), "int"),
    **dict.fromkeys((pa.int64(), pa.uint32()), "long"),
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.time64("us"): "time",
    pa.string(): "string",
    pa.binary(): "binary",
}
# Files have no values of partition columns, so a wider type is exact for every reader.
_WIDER: Mapping[pa.DataType, str] = {
    **dict.fromkeys((pa.uint8(), pa.uint16()), "int"),
    pa.uint32(): "long",
    pa.uint64(): "decimal(20, 0)",
}
# The type promotions that Iceberg allows: readers convert the values of older files.
_PROMOTIONS = frozenset({("int", "long"), ("float", "double")})


@dataclass(frozen=True)
class IcebergColumn:
    """One column of a table as Iceberg has it.

    Attributes:
        id: The id of the field.
        kind: Iceberg's type, as its JSON has it.
    """

    name: str
    id: int
    kind: Any


@dataclass(frozen=True)
class IcebergSchema:
    """A table's columns in Iceberg.

    Attributes:
        columns: The columns of the files.
        partition: The columns that no file has; their values are in the partition of each file.
        left_out: The other columns of the table: their names, and the reasons why Iceberg does not have them.
        unread: For each name that files may have but readers must not read from them: an id that no column has.
        bounded: The columns that have bounds in manifests, if their bounds are known. More files mean fewer columns.
        spec_id: The id of the partition spec.
    """

    columns: tuple[IcebergColumn, ...]
    partition: tuple[IcebergColumn, ...]
    left_out: Mapping[str, str]
    unread: Mapping[str, int]
    bounded: tuple[IcebergColumn, ...]
    spec_id: int = SPEC_ID

    @cached_property
    def of_large_objects(self) -> "IcebergSchema":
        """The schema of large objects, whose files have the partition columns with ids."""
        bounded = (*self.bounded, *self.partition)
        return replace(self, columns=self.all_columns, partition=(), bounded=bounded, spec_id=LARGE_SPEC_ID)

    @property
    def all_columns(self) -> tuple[IcebergColumn, ...]:
        """The columns, those of the files first."""
        return (*self.columns, *self.partition)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The schema."""
        return {
            "type": "struct",
            "schema-id": SCHEMA_ID,
            "fields": [
                {"id": column.id, "name": column.name, "required": False, "type": column.kind}
                for column in self.all_columns
            ],
        }

    @cached_property
    def spec(self) -> list[dict[str, Any]]:
        """The fields of the partition spec: each partition column as it is."""
        return [
            {"source-id": column.id, "field-id": number, "name": column.name, "transform": "identity"}
            for number, column in enumerate(self.partition, _FIRST_PARTITION_FIELD)
        ]

    @property
    def last_partition_id(self) -> int:
        """The highest id of a partition field."""
        return _FIRST_PARTITION_FIELD - 1 + len(self.partition)

    @cached_property
    def last_column_id(self) -> int:
        """The highest id of a field."""
        return max(_ids(self.schema), default=0)

    @cached_property
    def kinds(self) -> Mapping[int, str]:
        """The types of all fields by their ids; for a nested field only `struct`, `list` or `map`."""
        fields = [(column.id, column.kind) for column in self.all_columns]
        return dict(_kinds(fields))

    def is_read_by(self, newer: "IcebergSchema") -> bool:
        """Return True if a newer schema can read columns of this schema, because readers apply its types to bounds."""
        partition = {column.id for schema in (self, newer) for column in schema.partition}
        return all(
            kind == wanted or (id_ not in partition and _becomes(kind, wanted))
            for id_, kind in self.kinds.items()
            if (wanted := newer.kinds.get(id_)) is not None
        )

    @cached_property
    def name_mapping(self) -> list[dict[str, Any]]:
        """Finds the columns of files by their names, because the files have no ids.

        PyIceberg refuses a file with a column whose name is not mapped, so columns that are left out have entries, too.
        Partition columns have entries, because their values come from the metadata even if a file has the column.
        """
        read = [_mapped(column.name, column.id, column.kind) for column in self.columns]
        return read + [{"field-id": id_, "names": [name]} for name, id_ in self.unread.items()]


def iceberg_schema(table: Table, layouts: Sequence[Layout]) -> IcebergSchema:
    """Return the columns of a table in Iceberg.

    Args:
        table: The table.
        layouts: The layouts of its files; a type must be readable in each of them.
    """
    left_out = {name: str(reason) for name, reason in table.left_out.items()}
    columns, partition = [], []
    for field in table.file_schema:
        of_files = [layout.file.field(field.name).type for layout in layouts if field.name in layout.file.names]
        try:
            kind = column_type(field.type, of_files, (field.name,))
        except NotInIcebergError as error:
            left_out[field.name] = str(error)
        else:
            columns.append(IcebergColumn(field.name, field_id((field.name,)), kind))
    for field in table.partition_schema:
        try:
            partition.append(IcebergColumn(field.name, field_id((field.name,)), partition_type(field.type)))
        except NotInIcebergError as error:
            left_out[field.name] = str(error)
    shared = _with_shared_ids(columns, partition, [*left_out])
    left_out |= dict.fromkeys(shared, "its field id, or a nested one, is also that of another column: rename it")
    columns, partition = ([one for one in some if one.name not in shared] for some in (columns, partition))
    unread = dict.fromkeys([*left_out, *(column.name for column in partition)])
    flat = [column for column in columns if isinstance(column.kind, str)]
    return IcebergSchema(
        tuple(columns),
        tuple(partition),
        left_out,
        {name: unread_id(name) for name in unread},
        tuple(flat[: bounded_columns(len(table.files))]),
    )


def view_columns(columns: pa.Schema) -> list[IcebergColumn]:
    """Return the columns of a view's result.

    Raises:
        NotInIcebergError: One has a type that Iceberg does not have; a view cannot leave it out.
    """
    found = []
    for field in columns:
        try:
            kind = column_type(field.type, [field.type], (field.name,))
        except NotInIcebergError as error:
            raise NotInIcebergError(f"column {field.name!r}: {error}") from error
        found.append(IcebergColumn(field.name, field_id((field.name,)), kind))
    if shared := _with_shared_ids(found, [], []):
        raise NotInIcebergError(f"columns {sorted(shared)} share field ids with others: rename one of them")
    return found


def _with_shared_ids(
    columns: Sequence[IcebergColumn], partition: Sequence[IcebergColumn], left_out: Sequence[str]
) -> set[str]:
    """Return the columns that share an id with another column, because a file may have the other column under it."""
    ids = [(column.name, id_) for column in (*columns, *partition) for id_ in (column.id, *_ids(column.kind))]
    ids += [(name, field_id((name,))) for name in left_out]
    ids += [(name, unread_id(name)) for name in (*left_out, *(column.name for column in partition))]
    count = Counter(id_ for _, id_ in ids)
    return {name for name, id_ in ids if count[id_] > 1 and name not in left_out}


def bounded_columns(files: int) -> int:
    """Return the number of columns that have bounds. It changes only when the number of files doubles.

    >>> [bounded_columns(files) for files in (1, 600, 18_250, 1_000_000)]
    [100, 64, 2, 0]
    """
    doubled = 1 << (files - 1).bit_length()
    return min(_MAX_BOUNDED, _MAX_BOUNDS // doubled)


def avro_name(name: str) -> str:
    """Return a valid Avro name: other characters are replaced by their code points."""
    safe = _OTHER.sub(lambda found: f"_x{ord(found[0]):X}", name)
    return safe if safe and not safe[0].isdigit() else f"_{safe}"


def _mapped(name: str, id_: int, kind: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"field-id": id_, "names": [name]}
    if fields := [_mapped(*child) for child in _children(kind)]:
        entry["fields"] = fields
    return entry


def _children(kind: Any) -> list[tuple[str, int, Any]]:
    """Return name, id and type of what is inside a nested type."""
    if isinstance(kind, str):
        return []
    if kind["type"] == "struct":
        return [(field["name"], field["id"], field["type"]) for field in kind["fields"]]
    names = ("element",) if kind["type"] == "list" else ("key", "value")
    return [(name, kind[f"{name}-id"], kind[name]) for name in names]


def _ids(kind: Any) -> Iterable[int]:
    for _, id_, inner in _children(kind):
        yield id_
        yield from _ids(inner)


def _kinds(fields: Iterable[tuple[int, Any]]) -> Iterable[tuple[int, str]]:
    for id_, kind in fields:
        yield id_, kind if isinstance(kind, str) else kind["type"]
        yield from _kinds((child_id, child) for _, child_id, child in _children(kind))


class NotInIcebergError(Exception):
    """A column cannot be a column of an Iceberg table; the text has the reason."""


def column_type(unified: pa.DataType, physical: Sequence[pa.DataType], path: Path) -> Any:
    """Return a column's type as Iceberg's JSON has it.

    Args:
        unified: The type of the table's column.
        physical: The types that the files have.
        path: The column's name, and those of fields below it.

    Raises:
        NotInIcebergError: Iceberg has no such type, or does not convert the type in some files to it.
    """
    if pa.types.is_struct(unified):
        fields = []
        for child in unified:
            of_files = [kind.field(child.name).type for kind in physical if kind.get_field_index(child.name) >= 0]
            id_ = field_id((*path, child.name))
            kind = column_type(child.type, of_files, (*path, child.name))
            fields.append({"id": id_, "name": child.name, "required": False, "type": kind})
        return {"type": "struct", "fields": fields}
    if pa.types.is_list(unified):
        id_, inner = field_id((*path, "element")), [kind.value_type for kind in physical]
        element = column_type(unified.value_type, inner, (*path, "element"))
        return {"type": "list", "element-id": id_, "element": element, "element-required": False}
    if pa.types.is_map(unified):
        return _map(unified, physical, path)
    target = flat_type(unified)
    for kind in physical:
        if not _becomes(flat_type(kind), target):
            raise NotInIcebergError(f"it is {kind} in some files, which Iceberg does not convert to {target}")
    return target


def flat_type(kind: pa.DataType) -> str:
    """Return the type of a column that files have.

    Raises:
        NotInIcebergError: Iceberg version 2 has no such type.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_fixed_size_binary(kind):
        return f"fixed[{kind.byte_width}]"
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return f"decimal({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "timestamp" if kind.tz is None else "timestamptz"
    if pa.types.is_timestamp(kind):
        raise NotInIcebergError(f"its type is {kind}, and nanoseconds need Iceberg version 3: cast it to microseconds")
    raise NotInIcebergError(f"its type is {kind}, which Iceberg version 2 does not have")


def partition_type(kind: pa.DataType) -> str:
    """Return the type of a partition column, whose values are in the metadata only.

    Raises:
        NotInIcebergError: Iceberg version 2 has no type that holds all of its values.
    """
    if pa.types.is_floating(kind) or pa.types.is_binary(kind):
        raise NotInIcebergError(f"its type is {kind}, which partition columns cannot have")
    return _WIDER.get(kind) or flat_type(kind)


def decimal_digits(kind: str) -> tuple[int, int]:
    """Return precision and scale of `decimal(P, S)`."""
    precision, _, scale = kind.removeprefix("decimal(").removesuffix(")").partition(",")
    return int(precision), int(scale)


def _map(unified: pa.DataType, physical: Sequence[pa.DataType], path: Path) -> Any:
    key_id, value_id = field_id((*path, "key")), field_id((*path, "value"))
    keys, values = [kind.key_type for kind in physical], [kind.item_type for kind in physical]
    return {
        "type": "map",
        "key-id": key_id,
        "key": column_type(unified.key_type, keys, (*path, "key")),
        "value-id": value_id,
        "value": column_type(unified.item_type, values, (*path, "value")),
        "value-required": False,
    }


def _becomes(one: str, other: str) -> bool:
    if one == other or (one, other) in _PROMOTIONS:
        return True
    if not (one.startswith("decimal") and other.startswith("decimal")):
        return False
    (digits, scale), (more, same) = decimal_digits(one), decimal_digits(other)
    return digits <= more and scale == same
