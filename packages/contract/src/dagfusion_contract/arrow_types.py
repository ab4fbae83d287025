"""Arrow types as event metadata v1 writes them, and back: a flat type by its own name, a nested one as JSON. Pure."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from dagfusion_contract.errors import MalformedRecordError

_PLAIN: dict[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.null()),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    )
}
# A writer's normal forms; accepted here so that a frame written as it is still reads.
_PLAIN |= dict.fromkeys(("large_string", "string_view"), pa.string())
_PLAIN |= dict.fromkeys(("large_binary", "binary_view"), pa.binary())

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal(128|256)\((\d+), (-?\d+)\)")
_FIXED_BINARY = re.compile(r"fixed_size_binary\[(\d+)\]")


def field_entry(field: pa.Field) -> dict[str, Any]:
    """Write a column as `{"name", "type", "nullable"}`."""
    return {"name": field.name, "type": type_entry(field.type), "nullable": field.nullable}


def type_entry(data_type: pa.DataType) -> str | dict[str, Any]:
    """Write a type: a flat one as Arrow's own name of it, a nested one as an object with one key.

    >>> type_entry(pa.timestamp("us", "UTC")), type_entry(pa.list_(pa.int8()))
    ('timestamp[us, tz=UTC]', {'list': {'name': 'item', 'type': 'int8', 'nullable': True}})
    """
    if pa.types.is_list(data_type):
        return {"list": field_entry(data_type.value_field)}
    if pa.types.is_struct(data_type):
        return {"struct": [field_entry(data_type.field(index)) for index in range(data_type.num_fields)]}
    if pa.types.is_map(data_type):
        return {"map": [field_entry(data_type.key_field), field_entry(data_type.item_field)]}
    return str(data_type)


def parse_field(spec: object, where: str) -> pa.Field:
    """Read one `{"name", "type", "nullable"}`; the field is nullable whatever it says, since other files may lack it.

    Args:
        spec: The parsed JSON.
        where: The path of `spec` in its record, for messages.

    Raises:
        MalformedRecordError: `spec` is not a field, or names a type that Arrow does not have.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or "type" not in spec:
        raise MalformedRecordError(f'{where} must be {{"name": ..., "type": ..., "nullable": ...}}, got {spec!r}')
    return pa.field(spec["name"], parse_type(spec["type"], f"{where}.type"))


def parse_type(spec: object, where: str) -> pa.DataType:
    """Read a type: `"int64"`, `"timestamp[us, tz=UTC]"`, `{"list": <field>}`, `{"struct": [...]}`, `{"map": [...]}`.

    Raises:
        MalformedRecordError: The value does not describe a type.
    """
    if isinstance(spec, str):
        kind = parse_flat_type(spec)
        if kind is not None:
            return kind
    elif isinstance(spec, dict) and len(spec) == 1:
        ((shape, inner),) = spec.items()
        if shape in _NESTED:
            return _NESTED[shape](inner, f"{where}.{shape}")
    raise MalformedRecordError(
        f"{where} must be an Arrow type's name, or a list, struct or map of fields; got {spec!r}"
    )


@lru_cache(maxsize=1024)
def parse_flat_type(name: str) -> pa.DataType | None:
    """Return the type that Arrow prints as `name`, or None."""
    if name in _PLAIN:
        return _PLAIN[name]
    if match := _TIMESTAMP.fullmatch(name):
        return pa.timestamp(match[1], match[2])
    if match := _FIXED_BINARY.fullmatch(name):
        return pa.binary(int(match[1]))
    if match := _DECIMAL.fullmatch(name):
        make, limit = (pa.decimal128, 38) if match[1] == "128" else (pa.decimal256, 76)
        precision, scale = int(match[2]), int(match[3])
        return make(precision, scale) if 1 <= precision <= limit and scale <= precision else None
    return None


def _fields(spec: object, where: str, count: int | None = None) -> Sequence[pa.Field]:
    if not isinstance(spec, list) or (count is not None and len(spec) != count):
        raise MalformedRecordError(f"{where} must be a list of {count or ''} fields, got {spec!r}")
    return [parse_field(field, f"{where}[{i}]") for i, field in enumerate(spec)]


def _list(spec: object, where: str) -> pa.DataType:
    return pa.list_(parse_field(spec, where))


def _struct(spec: object, where: str) -> pa.DataType:
    return pa.struct(_fields(spec, where))


def _map(spec: object, where: str) -> pa.DataType:
    key, value = _fields(spec, where, count=2)
    return pa.map_(key.with_nullable(nullable=False), value)


_NESTED: dict[str, Callable[[object, str], pa.DataType]] = {"list": _list, "struct": _struct, "map": _map}
