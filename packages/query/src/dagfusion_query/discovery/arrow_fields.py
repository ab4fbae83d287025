"""Arrow fields as event metadata v1 writes them, normalised as our writers do. Pure."""

import hashlib
from typing import Any

import orjson
import pyarrow as pa

from dagfusion_query.errors import UndiscoverableError
from dagfusion_query.event_log.arrow_types import parse_flat_type
from dagfusion_query.event_log.record import FOREIGN

_DIGITS_128 = 38


def describe_schema(schema: pa.Schema) -> dict[str, Any]:
    """Return a record's `schema`: the fields and their fingerprint.

    Raises:
        UndiscoverableError: A column has a type that cannot be queried.
    """
    fields = [_field(field, field.name) for field in schema]
    canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return {"fingerprint": FOREIGN + hashlib.sha256(canonical).hexdigest()[:16], "fields": fields}


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


def _field(field: pa.Field, column: str) -> dict[str, Any]:
    return {"name": field.name, "type": _type(field.type, column), "nullable": field.nullable}


def _type(given: pa.DataType, column: str) -> Any:
    kind = plain(given)
    if pa.types.is_struct(kind):
        return {"struct": [_field(field, column) for field in kind]}
    if pa.types.is_map(kind):
        return {"map": [_field(kind.key_field, column), _field(kind.item_field, column)]}
    if pa.types.is_nested(kind) and hasattr(kind, "value_field"):
        return {"list": _field(kind.value_field, column)}
    name = str(kind)
    if parse_flat_type(name) is None:
        raise UndiscoverableError(
            f"column {column!r} has type {name}, which cannot be queried: write it as another type"
        )
    return name
