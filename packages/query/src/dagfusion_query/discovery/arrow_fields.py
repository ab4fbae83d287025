"""The columns of a Parquet file as event metadata v1 writes them, normalised as our writers do. Pure."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from dagfusion_contract.arrow_types import parse_flat_type
from dagfusion_contract.record import FOREIGN, UNREADABLE

if TYPE_CHECKING:  # most processes read no footer
    import pyarrow.parquet as pq

_DIGITS_128 = 38


class _UnreadableError(Exception):
    """A column has a type that cannot be queried; the text is its name."""


def describe_schema(metadata: "pq.FileMetaData", schema: pa.Schema) -> dict[str, Any]:
    """Return a record's `schema`: the fields, and by name the types of columns that are left out; their fingerprint.

    Args:
        metadata: The footer.
        schema: The footer's columns as Arrow has them.
    """
    leaves = (metadata.schema.column(number) for number in range(len(metadata.schema)))
    fields: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for field in schema:
        own = islice(leaves, leaf_count(field.type))
        try:
            fields.append(_field(field, own))
        except _UnreadableError as error:
            unreadable[field.name] = str(error)
            list(own)  # so that the next column begins at its own leaf
    described = [fields, unreadable] if unreadable else fields
    canonical = orjson.dumps(described, option=orjson.OPT_SORT_KEYS)
    found = {"fingerprint": FOREIGN + hashlib.sha256(canonical).hexdigest()[:16], "fields": fields}
    return found | ({UNREADABLE: unreadable} if unreadable else {})


def leaf_count(given: pa.DataType) -> int:
    """Return how many of a Parquet file's columns an Arrow column is."""
    kind = plain(given)
    if pa.types.is_struct(kind):
        return sum(leaf_count(field.type) for field in kind)
    if pa.types.is_map(kind):
        return leaf_count(kind.key_type) + leaf_count(kind.item_type)
    return leaf_count(kind.value_type) if pa.types.is_nested(kind) else 1


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that a reader gives a flat column, whatever its writer kept it in."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.precision <= _DIGITS_128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def _field(field: pa.Field, leaves: "Iterator[pq.ColumnSchema]") -> dict[str, Any]:
    return {"name": field.name, "type": _type(field.type, leaves), "nullable": field.nullable}


def _type(given: pa.DataType, leaves: "Iterator[pq.ColumnSchema]") -> Any:
    kind = plain(given)
    if pa.types.is_struct(kind):
        return {"struct": [_field(field, leaves) for field in kind]}
    if pa.types.is_map(kind):
        return {"map": [_field(kind.key_field, leaves), _field(kind.item_field, leaves)]}
    if pa.types.is_nested(kind) and hasattr(kind, "value_field"):
        return {"list": _field(kind.value_field, leaves)}
    leaf = next(leaves)
    if leaf.physical_type == "INT96":  # DataFusion reads microseconds, which hold the years that nanoseconds do not
        kind = pa.timestamp("us")
    if leaf.converted_type == "INTERVAL":
        raise _UnreadableError("interval")
    if parse_flat_type(str(kind)) is None:
        raise _UnreadableError(str(kind))
    return str(kind)
