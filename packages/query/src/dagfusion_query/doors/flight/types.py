"""Arrow's types as SQL, JDBC and ODBC name and number them. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

NULLABLE, SEARCHABLE_BASIC, SEARCHABLE_FULL = 1, 2, 3
_DATETIME = 9


class SqlType(NamedTuple):
    """One type of SQL.

    Attributes:
        code: JDBC's and ODBC's number.
        size: Digits, characters or bits; None where that has no meaning.
        radix: 10 where `size` counts digits, 2 where it counts bits.
        subcode: Of dates and times.
    """

    name: str
    code: int
    size: int | None = None
    quote: str | None = None
    radix: int | None = None
    scales: tuple[int, int] | None = None
    subcode: int | None = None
    is_unsigned: bool = False


_BOOLEAN = SqlType("BOOLEAN", -7, 1)
_VARCHAR = SqlType("VARCHAR", 12, quote="'")
_VARBINARY = SqlType("VARBINARY", -3)
_DATE = SqlType("DATE", 91, 10, quote="'", subcode=1)
_TIME = SqlType("TIME", 92, 18, quote="'", scales=(0, 9), subcode=2)
_TIMESTAMP = SqlType("TIMESTAMP", 93, 29, quote="'", scales=(0, 9), subcode=3)
_TIMESTAMP_TZ = SqlType("TIMESTAMP WITH TIME ZONE", 93, 35, quote="'", scales=(0, 9), subcode=5)
_DECIMAL = SqlType("DECIMAL", 3, 76, radix=10, scales=(0, 76))
_REAL = SqlType("REAL", 7, 24, radix=2)
_DOUBLE = SqlType("DOUBLE", 8, 53, radix=2)
_INTERVAL = SqlType("INTERVAL", 10)
_OTHER = 1111  # JDBC's java.sql.Types.OTHER, which is what its drivers take for nested types
_INTEGERS: Mapping[pa.DataType, SqlType] = {
    pa.int8(): SqlType("TINYINT", -6, 3, radix=10),
    pa.int16(): SqlType("SMALLINT", 5, 5, radix=10),
    pa.int32(): SqlType("INTEGER", 4, 10, radix=10),
    pa.int64(): SqlType("BIGINT", -5, 19, radix=10),
    pa.uint8(): SqlType("TINYINT UNSIGNED", -6, 3, radix=10, is_unsigned=True),
    pa.uint16(): SqlType("SMALLINT UNSIGNED", 5, 5, radix=10, is_unsigned=True),
    pa.uint32(): SqlType("INTEGER UNSIGNED", 4, 10, radix=10, is_unsigned=True),
    pa.uint64(): SqlType("BIGINT UNSIGNED", -5, 20, radix=10, is_unsigned=True),
}
TYPES: Sequence[SqlType] = sorted(
    [
        *_INTEGERS.values(),
        *(_BOOLEAN, _VARCHAR, _VARBINARY, _DATE, _TIME, _TIMESTAMP, _TIMESTAMP_TZ, _DECIMAL, _REAL, _DOUBLE, _INTERVAL),
    ],
    key=lambda kind: (kind.code, kind.name),
)


def sql_type(kind: pa.DataType) -> SqlType:  # a table
    """Return the SQL type of an Arrow type; nested types have their Arrow name."""
    if pa.types.is_dictionary(kind):
        return sql_type(kind.value_type)
    if kind in _INTEGERS:
        return _INTEGERS[kind]
    if pa.types.is_decimal(kind):
        return _DECIMAL._replace(size=kind.precision, scales=(kind.scale, kind.scale))
    if pa.types.is_timestamp(kind):
        return _TIMESTAMP if kind.tz is None else _TIMESTAMP_TZ
    for check, found in (
        (pa.types.is_boolean, _BOOLEAN),
        (_is_text, _VARCHAR),
        (_is_binary, _VARBINARY),
        (pa.types.is_date, _DATE),
        (pa.types.is_time, _TIME),
        (pa.types.is_float64, _DOUBLE),
        (pa.types.is_floating, _REAL),
        (_is_interval, _INTERVAL),
    ):
        if check(kind):
            return found
    return SqlType(str(kind), _OTHER)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_interval(kind: pa.DataType) -> bool:
    return bool(pa.types.is_interval(kind) or pa.types.is_duration(kind))


def type_info_row(kind: SqlType) -> dict[str, object]:
    """Return a type as a row of `CommandGetXdbcTypeInfo`."""
    is_number = kind.radix is not None
    lowest, highest = kind.scales or (None, None)
    return {
        "type_name": kind.name,
        "data_type": kind.code,
        "column_size": kind.size,
        "literal_prefix": kind.quote,
        "literal_suffix": kind.quote,
        "create_params": ["precision", "scale"] if kind.name == "DECIMAL" else None,
        "nullable": NULLABLE,
        "case_sensitive": kind is _VARCHAR,
        "searchable": SEARCHABLE_FULL if kind is _VARCHAR else SEARCHABLE_BASIC,
        "unsigned_attribute": kind.is_unsigned if is_number else None,
        "fixed_prec_scale": False,
        "auto_increment": False if is_number else None,
        "local_type_name": kind.name,
        "minimum_scale": lowest,
        "maximum_scale": highest,
        "sql_data_type": kind.code if kind.subcode is None else _DATETIME,
        "datetime_subcode": kind.subcode,
        "num_prec_radix": kind.radix,
        "interval_precision": None,
    }
