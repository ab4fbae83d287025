"""One schema for files that were written with different ones. Pure, and the same for any order of the files' types."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

_FINEST = ("ns", "us", "ms", "s")
_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
_DIGITS |= {pa.uint8(): 3, pa.uint16(): 5, pa.uint32(): 10, pa.uint64(): 20}
_MAX_DIGITS_128, _MAX_DIGITS_256 = 38, 76
_EXACT_IN_FLOAT32_BITS = 16


@dataclass(frozen=True)
class Conflict:
    """A column that no common type fits: for each of its types, the numbers of the schemas that have it."""

    column: str
    types: Mapping[pa.DataType, Sequence[int]]


def unify_schemas(schemas: Sequence[pa.Schema]) -> tuple[pa.Schema, list[Conflict]]:
    """Unite the columns of several schemas.

    Args:
        schemas: In the order that the result's columns shall have: later schemas add theirs at the end.

    Returns:
        Every column once, nullable, with the narrowest type that holds all of its types; and the columns that have
        none, which the schema leaves out.
    """
    types: dict[str, dict[pa.DataType, list[int]]] = {}
    for number, schema in enumerate(schemas):
        for field in schema:
            types.setdefault(field.name, {}).setdefault(field.type, []).append(number)
    fields, conflicts = [], []
    for name, found in types.items():
        kind = common_type(found)
        if kind is None:
            conflicts.append(Conflict(name, found))
        else:
            fields.append(pa.field(name, kind))
    return pa.schema(fields), conflicts


def common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the narrowest type that holds all values of `types`, or None.

    Integers widen to integers, and beside unsigned 64 bits to a decimal; integers and decimals beside floats become
    floats; decimals keep the digits of both sides; times keep the finest unit; null fits anything; lists, structs and
    maps unify inside.
    """
    kinds = sorted({kind for kind in types if not pa.types.is_null(kind)}, key=str)
    if len(kinds) <= 1:
        return kinds[0] if kinds else pa.null()
    for rule in (_numbers, _instants, _structs, _lists, _maps):
        kind = rule(kinds)
        if kind is not None:
            return kind
    return None


def _numbers(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    integers = [kind for kind in kinds if pa.types.is_integer(kind)]
    floats = [kind for kind in kinds if pa.types.is_floating(kind)]
    decimals = [kind for kind in kinds if pa.types.is_decimal(kind)]
    if len(integers) + len(floats) + len(decimals) < len(kinds):
        return None
    if floats:
        wide = decimals or any(kind.bit_width > _EXACT_IN_FLOAT32_BITS for kind in integers)
        bits = max(kind.bit_width for kind in floats)
        return pa.float64() if wide or bits > pa.float32().bit_width else pa.float32()
    if decimals:
        return _decimal(integers, decimals)
    return _integer(integers)


def _integer(kinds: Sequence[pa.DataType]) -> pa.DataType:
    signed = max((kind.bit_width for kind in kinds if pa.types.is_signed_integer(kind)), default=0)
    unsigned = max((kind.bit_width for kind in kinds if pa.types.is_unsigned_integer(kind)), default=0)
    if not signed:
        return {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[unsigned]
    bits = max(signed, 2 * unsigned)
    return {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits, pa.decimal128(20, 0))


def _decimal(integers: Sequence[pa.DataType], decimals: Sequence[pa.DataType]) -> pa.DataType | None:
    scale = max(0, *(kind.scale for kind in decimals)) if integers else max(kind.scale for kind in decimals)
    whole = max([kind.precision - kind.scale for kind in decimals] + [_DIGITS[kind] for kind in integers])
    digits = whole + scale
    if digits <= _MAX_DIGITS_128 and all(pa.types.is_decimal128(kind) for kind in decimals):
        return pa.decimal128(digits, scale)
    return pa.decimal256(digits, scale) if digits <= _MAX_DIGITS_256 else None


def _instants(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    if all(pa.types.is_date(kind) for kind in kinds):
        return pa.date64()
    unit = min((kind.unit for kind in kinds if hasattr(kind, "unit")), key=_FINEST.index, default="s")
    if all(pa.types.is_timestamp(kind) for kind in kinds):
        zones = {kind.tz for kind in kinds}
        if None in zones:
            return pa.timestamp(unit) if len(zones) == 1 else None
        return pa.timestamp(unit, zones.pop() if len(zones) == 1 else "UTC")
    if all(pa.types.is_duration(kind) for kind in kinds):
        return pa.duration(unit)
    if all(pa.types.is_time(kind) for kind in kinds):
        return pa.time64(unit) if unit in ("us", "ns") else pa.time32(unit)
    return None


def _structs(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    if not all(pa.types.is_struct(kind) for kind in kinds):
        return None
    schema, conflicts = unify_schemas([pa.schema(list(kind)) for kind in kinds])
    return None if conflicts else pa.struct(list(schema))


def _lists(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    if not all(pa.types.is_list(kind) for kind in kinds):
        return None
    item = common_type(kind.value_type for kind in kinds)
    name = min(kind.value_field.name for kind in kinds)
    return None if item is None else pa.list_(pa.field(name, item))


def _maps(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    if not all(pa.types.is_map(kind) for kind in kinds):
        return None
    key, item = common_type(kind.key_type for kind in kinds), common_type(kind.item_type for kind in kinds)
    return None if key is None or item is None else pa.map_(key, item)
