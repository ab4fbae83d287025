"""The SQL features and types of this server, by the numbers that Flight SQL, JDBC and ODBC define. Pure.

All values that JDBC drivers request are here: a driver takes a missing value for false, 0 or empty, or fails.
"""

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import pyarrow as pa

from dagfusion_contract.naming import RESERVED

HANDLE_TIMEOUT_S = 3600.0
_NAME_LENGTH = 255
_CASE_LOWER, _NULLS_HIGH = 3, 0
_NUMERIC = "abs acos asin atan atan2 cbrt ceil cos cot degrees exp factorial floor ln log log10 log2 pi pow power"
_NUMERIC += " radians random round signum sin sqrt tan trunc"
_STRING = "ascii bit_length btrim char_length chr concat concat_ws contains ends_with initcap left length lower lpad"
_STRING += " ltrim octet_length overlay position regexp_like regexp_match regexp_replace repeat replace reverse right"
_STRING += " rpad rtrim split_part starts_with strpos substr substring to_hex translate trim upper"
_TEMPORAL = "current_date current_time current_timestamp date_bin date_part date_trunc from_unixtime make_date now"
_TEMPORAL += (
    " to_char to_date to_timestamp to_timestamp_micros to_timestamp_millis to_timestamp_seconds to_unixtime today"
)
_DATETIME = 9
Value = str | bool | int | Sequence[str] | Mapping[int, Sequence[int]]
_VALUE = pa.dense_union(
    [
        pa.field("string_value", pa.utf8()),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.field("item", pa.utf8()))),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)
_KINDS = tuple(_VALUE.field(kind).name for kind in range(_VALUE.num_fields))
SCHEMA = pa.schema([pa.field("info_name", pa.uint32(), nullable=False), pa.field("value", _VALUE, nullable=False)])
NULLABLE, SEARCHABLE_BASIC, SEARCHABLE_FULL = 1, 2, 3
_OTHER = 1111  # JDBC's java.sql.Types.OTHER, which is what its drivers take for nested types


def sql_info(numbers: Collection[int], statement_limit_bytes: int) -> pa.Table:
    """Return what is known of these numbers, of all when there are none.

    Args:
        numbers: Flight SQL's; unknown ones are left out.
        statement_limit_bytes: Length of a statement.
    """
    all_values = {**_INFO, 557: _count(statement_limit_bytes)}
    requested = [number for number in sorted(all_values) if not numbers or number in numbers]
    children: dict[str, list[object]] = {name: [] for name in _KINDS}
    kinds, offsets = [], []
    for number in requested:
        name, value = _typed(all_values[number])
        kinds.append(_KINDS.index(name))
        offsets.append(len(children[name]))
        children[name].append(value)
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(values, _VALUE.field(kind).type) for kind, values in enumerate(children.values())],
        list(_KINDS),
    )
    return pa.Table.from_arrays([pa.array(requested, pa.uint32()), union], schema=SCHEMA)


class SqlType(NamedTuple):
    """One type of SQL.

    Attributes:
        code: JDBC's and ODBC's number.
        size: Digits, characters or bits; None where that has no meaning.
        radix: 10 where `size` counts digits, 2 where it counts bits.
        subcode: The subcode of dates and times.
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


def _bits(*numbers: int) -> tuple[str, int]:
    return "int32_bitmask", sum(1 << number for number in numbers)


def _count(number: int = 0) -> tuple[str, int]:
    return "bigint_value", number


def _typed(value: Value | tuple[str, int]) -> tuple[str, object]:
    """Return the union's field for a value, and the value."""
    if isinstance(value, str):
        return "string_value", value
    if isinstance(value, bool):
        return "bool_value", value
    if isinstance(value, Mapping):
        return "int32_to_int32_list_map", list(value.items())
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):  # noqa: PLR2004  # name and number
        return value
    return "string_list", list(value)  # type: ignore[arg-type]


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


_INFO: Mapping[int, Value | tuple[str, int]] = {
    0: "DagFusion",
    1: version("dagfusion-query"),
    2: pa.__version__,
    3: True,  # read only
    4: True,  # SQL
    5: False,  # Substrait
    8: _bits(),  # transactions: none
    9: True,  # cancel
    100: ("int32_bitmask", int(HANDLE_TIMEOUT_S * 1000)),  # ms that an unused prepared statement lives
    101: ("int32_bitmask", 0),
    **dict.fromkeys((500, 501, 502), False),  # DDL of catalogs, schemas, tables
    503: _count(_CASE_LOWER),  # unquoted identifiers
    504: '"',
    505: _count(0),  # quoted identifiers: as they are, which Flight SQL has no number for
    506: True,  # all tables are selectable
    507: _count(_NULLS_HIGH),  # NULL sorts after every value
    508: tuple(sorted(word.upper() for word in RESERVED)),
    509: tuple(_NUMERIC.split()),
    510: tuple(_STRING.split()),
    511: ("arrow_cast", "arrow_typeof", "coalesce", "ifnull", "nullif", "nvl", "version"),
    512: tuple(_TEMPORAL.split()),
    513: "\\",  # escapes wildcards in the patterns of metadata
    514: "",  # further characters of unquoted identifiers
    515: True,  # column aliases
    516: True,  # NULL || 'a' is NULL
    517: {},  # conversions by the function CONVERT
    518: True,  # table aliases
    519: False,  # ... that must differ from tables' names
    520: True,  # expressions in ORDER BY
    521: True,  # ORDER BY what is not selected
    522: _bits(0, 1),  # GROUP BY what is not selected
    523: True,  # LIKE ... ESCAPE
    524: True,  # columns that are NOT NULL
    525: _bits(0, 1),  # ODBC's grammar: minimum and core
    526: _bits(0),  # SQL-92: entry
    527: False,  # integrity enhancement
    528: _bits(0, 1, 2),  # outer joins: all
    529: "schema",
    530: "procedure",
    531: "catalog",
    532: True,  # the catalog comes first in a name
    533: _bits(),
    534: _bits(),
    535: _bits(),  # positioned updates and deletes
    536: False,  # SELECT FOR UPDATE
    537: False,  # stored procedures
    538: _bits(0, 1, 2),  # subqueries: comparisons, EXISTS, IN
    539: True,  # correlated subqueries
    540: _bits(0, 1),  # UNION, UNION ALL
    541: _count(),
    542: _count(),
    543: _count(_NAME_LENGTH),
    **dict.fromkeys(range(544, 552), _count()),  # limits: none
    **dict.fromkeys((552, 553, 554), _count(_NAME_LENGTH)),
    555: _count(),
    556: True,
    **dict.fromkeys((557, 558), _count()),
    559: _count(_NAME_LENGTH),
    560: _count(),
    561: _count(),
    562: _count(0),  # transaction isolation: none
    563: False,
    564: _bits(0),
    565: False,
    566: False,
    567: _bits(0, 1),  # results: forward only
    568: _bits(1),  # ... and read only
    569: _bits(1),
    570: _bits(),
    571: _bits(),
    **dict.fromkeys(range(572, 577), False),  # batch updates, savepoints, named call parameters, LOBs, call syntax
}
