"""Arrow types as types of Iceberg version 2. A type that has no exact counterpart is refused with the reason. Pure."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

FIRST_RESERVED_ID = 2_147_483_447  # the specification keeps this id and higher ones for metadata columns
Json = Any
Path = tuple[str, ...]

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
# Of partition columns no file has a value, so that a wider type is exact for every reader.
_WIDER: Mapping[pa.DataType, str] = {
    **dict.fromkeys((pa.uint8(), pa.uint16()), "int"),
    pa.uint32(): "long",
    pa.uint64(): "decimal(20, 0)",
}
# What Iceberg lets a column become, so that readers convert the files of before.
_PROMOTIONS = frozenset({("int", "long"), ("float", "double")})


class NotInIcebergError(Exception):
    """A column cannot be a column of an Iceberg table; the text has the reason."""


class FieldIds:
    """Gives each field the id that its path has in every table, service and generation.

    The id is a hash of the path, so nothing has to be stored, and a column that is dropped and added again has its id
    again. Should two paths of a table have the same hash, the one that comes later in the schema gets the next free id.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, path: Path) -> int:
        """Return the id of a field."""
        digest = hashlib.blake2b("\0".join(path).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        id_ = int.from_bytes(digest) % (FIRST_RESERVED_ID - 1) + 1
        while id_ in self._taken:
            id_ = id_ % (FIRST_RESERVED_ID - 1) + 1
        self._taken.add(id_)
        return id_


def column_type(unified: pa.DataType, physical: Sequence[pa.DataType], path: Path, take: Callable[[Path], int]) -> Json:
    """Return a column's type as Iceberg's JSON has it.

    Args:
        unified: The type of the table's column.
        physical: The types that the files have.
        path: The column's name, and those of fields below it.
        take: Gives a path its id.

    Raises:
        NotInIcebergError: Iceberg has no such type, or would not convert what some of the files have.
    """
    if pa.types.is_struct(unified):
        fields = []
        for child in unified:
            of_files = [kind.field(child.name).type for kind in physical if kind.get_field_index(child.name) >= 0]
            id_ = take((*path, child.name))
            kind = column_type(child.type, of_files, (*path, child.name), take)
            fields.append({"id": id_, "name": child.name, "required": False, "type": kind})
        return {"type": "struct", "fields": fields}
    if pa.types.is_list(unified):
        id_, inner = take((*path, "element")), [kind.value_type for kind in physical]
        element = column_type(unified.value_type, inner, (*path, "element"), take)
        return {"type": "list", "element-id": id_, "element": element, "element-required": False}
    if pa.types.is_map(unified):
        return _map(unified, physical, path, take)
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
        raise NotInIcebergError(
            f"its type is {kind}, and nanoseconds are of Iceberg version 3: cast it to microseconds"
        )
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


def _map(unified: pa.DataType, physical: Sequence[pa.DataType], path: Path, take: Callable[[Path], int]) -> Json:
    key_id, value_id = take((*path, "key")), take((*path, "value"))
    keys, values = [kind.key_type for kind in physical], [kind.item_type for kind in physical]
    return {
        "type": "map",
        "key-id": key_id,
        "key": column_type(unified.key_type, keys, (*path, "key"), take),
        "value-id": value_id,
        "value": column_type(unified.item_type, values, (*path, "value"), take),
        "value-required": False,
    }


def _becomes(one: str, other: str) -> bool:
    if one == other or (one, other) in _PROMOTIONS:
        return True
    if not (one.startswith("decimal") and other.startswith("decimal")):
        return False
    (digits, scale), (more, same) = decimal_digits(one), decimal_digits(other)
    return digits <= more and scale == same
