"""What Flight SQL clients ask of a server's SQL, by the numbers that Flight SQL gives it. Pure.

A driver takes what is missing for false, 0 or empty at best, and fails at worst: so nothing that JDBC asks is missing.
"""

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version

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
_TIME = "current_date current_time current_timestamp date_bin date_part date_trunc from_unixtime make_date now"
_TIME += " to_char to_date to_timestamp to_timestamp_micros to_timestamp_millis to_timestamp_seconds to_unixtime today"

Value = str | bool | int | Sequence[str] | Mapping[int, Sequence[int]]


def _bits(*numbers: int) -> tuple[str, int]:
    return "int32_bitmask", sum(1 << number for number in numbers)


def _count(number: int = 0) -> tuple[str, int]:
    return "bigint_value", number


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
    512: tuple(_TIME.split()),
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


def sql_info(numbers: Collection[int], statement_limit_bytes: int) -> pa.Table:
    """Return what is known of these numbers, of all when there are none.

    Args:
        numbers: Flight SQL's; unknown ones are left out.
        statement_limit_bytes: Length of a statement.
    """
    known = {**_INFO, 557: _count(statement_limit_bytes)}
    asked = [number for number in sorted(known) if not numbers or number in numbers]
    children: dict[str, list[object]] = {name: [] for name in _KINDS}
    kinds, offsets = [], []
    for number in asked:
        name, value = _typed(known[number])
        kinds.append(_KINDS.index(name))
        offsets.append(len(children[name]))
        children[name].append(value)
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(values, _VALUE.field(kind).type) for kind, values in enumerate(children.values())],
        list(_KINDS),
    )
    return pa.Table.from_arrays([pa.array(asked, pa.uint32()), union], schema=SCHEMA)


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
