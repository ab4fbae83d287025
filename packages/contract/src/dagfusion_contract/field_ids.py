"""Iceberg's ids of fields: those of the query service's Iceberg catalog, and those that files may have. Pure.

The id of a field is a hash of its path. So a writer needs to read neither the table nor its other files,
and a column that is dropped and added again has its id again.
"""

import hashlib
from collections.abc import Callable, Collection

import pyarrow as pa

FIRST_RESERVED_ID = 2_147_483_447  # the specification keeps this id and higher ones for metadata columns
KEY = b"PARQUET:field_id"  # of a field's metadata, as Arrow reads and writes ids
_UNREAD = "is not read"
Path = tuple[str, ...]


def field_id(path: Path) -> int:
    """Return the id of a field.

    Args:
        path: The column's name, and the names below it: of a struct's field, and `element`, `key` and `value`.

    Example:
        >>> field_id(("tags",)), field_id(("tags", "element"))
        (327245193, 1549106558)
    """
    digest = hashlib.blake2b("\0".join(path).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % (FIRST_RESERVED_ID - 1) + 1


def unread_id(column: str) -> int:
    """Return the id of a column that files have and that Iceberg's readers must not read from them."""
    return field_id((column, _UNREAD))


def with_field_ids(schema: pa.Schema, partition_columns: Collection[str] = ()) -> pa.Schema:
    """Return the schema of a file whose fields have their ids.

    Args:
        schema: The schema of the file.
        partition_columns: The partition columns that the file has. Their values are in the metadata, too, as another
            type where Iceberg does not have the file's.
    """

    def give(path: Path, kind: pa.DataType) -> int:
        is_other = pa.types.is_uint64(kind) and path[0] in partition_columns
        return unread_id(path[0]) if is_other else field_id(path)

    return pa.schema([_rebuilt(field, (field.name,), give) for field in schema])


def without_field_ids(table: pa.Table) -> pa.Table:
    """Return a table without ids, and without any other metadata of its fields, as if the file had none."""
    if not has_field_ids(table.schema):
        return table
    schema = pa.schema([_rebuilt(field, (field.name,), lambda *_: None) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema)


def has_field_ids(schema: pa.Schema) -> bool:
    """Return True if a column of a file has an id."""
    return any(KEY in (field.metadata or {}) for field in schema)


def has_all_field_ids(schema: pa.Schema) -> bool:
    """Return True if all columns of a file and all fields in them have ids."""
    return all(_has_ids(field) for field in schema)


def _has_ids(field: pa.Field) -> bool:
    kind = field.type
    inner = [kind.key_field, kind.item_field] if pa.types.is_map(kind) else map(kind.field, range(kind.num_fields))
    return KEY in (field.metadata or {}) and all(map(_has_ids, inner))


def _rebuilt(field: pa.Field, path: Path, give: Callable[[Path, pa.DataType], int | None]) -> pa.Field:
    """Return a field without metadata but for the ids that it and those in it are given."""

    def inside(child: pa.Field, name: str) -> pa.Field:
        return _rebuilt(child, (*path, name), give)

    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([inside(child, child.name) for child in kind])
    elif pa.types.is_list(kind):
        kind = pa.list_(inside(kind.value_field, "element"))
    elif pa.types.is_large_list(kind):
        kind = pa.large_list(inside(kind.value_field, "element"))
    elif pa.types.is_fixed_size_list(kind):
        kind = pa.list_(inside(kind.value_field, "element"), kind.list_size)
    elif pa.types.is_map(kind):
        kind = pa.map_(inside(kind.key_field, "key"), inside(kind.item_field, "value"), kind.keys_sorted)
    id_ = give(path, kind)
    return pa.field(field.name, kind, field.nullable, None if id_ is None else {KEY: str(id_)})
