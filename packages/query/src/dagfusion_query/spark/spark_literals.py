"""Writes values, names and Arrow types in Spark's SQL. Pure."""

import math
from datetime import UTC
from typing import Any

import pyarrow as pa

from dagfusion_query.errors import EngineChoiceError

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "SMALLINT",
    pa.uint16(): "INT",
    pa.uint32(): "BIGINT",
    pa.uint64(): "DECIMAL(20,0)",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "STRING",
    pa.large_string(): "STRING",
    pa.string_view(): "STRING",
    pa.binary(): "BINARY",
    pa.large_binary(): "BINARY",
    pa.date32(): "DATE",
}
_MOST_DIGITS = 38


def string(text: str) -> str:
    r"""Return a string constant. Spark replaces `${name}` in a statement, so `$` is escaped.

    >>> print(string("it's ${env:HOME} \\"))
    'it\'s \u0024{env:HOME} \\'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024")
    return f"'{escaped}'"


def name(text: str) -> str:
    """Return a quoted name.

    Raises:
        EngineChoiceError: The name has a `$`, which Spark may read as the start of a variable.

    >>> name("a`b")
    '`a``b`'
    """
    if "$" in text:
        raise EngineChoiceError(f'the name "{text}" has a $, which the Spark engine cannot be sent: use engine="local"')
    escaped = text.replace("`", "``")
    return f"`{escaped}`"


def literal(value: pa.Scalar) -> str:
    """Return the value of a parameter as a constant.

    Raises:
        EngineChoiceError: Spark has no constant of this type.

    >>> literal(pa.scalar(7)), literal(pa.scalar(None, pa.string()))
    ("CAST('7' AS BIGINT)", 'CAST(NULL AS STRING)')
    """
    if pa.types.is_null(value.type):
        return "NULL"
    kind = _type(value.type)
    if not value.is_valid:
        return f"CAST(NULL AS {kind})"
    if kind == "BINARY":
        return f"X'{value.as_py().hex()}'"
    if kind == "STRING":
        return string(value.as_py())
    return f"CAST('{_text(value)}' AS {kind})"


def _type(kind: pa.DataType) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return f"DECIMAL({min(kind.precision, _MOST_DIGITS)},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP_NTZ" if kind.tz is None else "TIMESTAMP"
    raise EngineChoiceError(f'a parameter of type {kind} cannot be sent to the Spark engine: use engine="local"')


def _text(value: pa.Scalar) -> str:
    if pa.types.is_timestamp(value.type):
        try:
            at: Any = value.cast(pa.timestamp("us", value.type.tz)).as_py()
        except pa.ArrowInvalid:
            raise EngineChoiceError(
                'a parameter with nanoseconds cannot be sent to the Spark engine: use engine="local"'
            ) from None
        return str(at.isoformat(" ") if at.tzinfo is None else at.astimezone(UTC).isoformat(" "))
    plain = value.as_py()
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else f"{'-' if plain < 0 else ''}Infinity"
    return str(plain)
