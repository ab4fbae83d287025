"""Parameters of a statement as the command line has them. Pure."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from dagfusion_query.errors import ParameterError

_NAMED = re.compile(r"\$?([A-Za-z_]\w*|[1-9]\d{0,3})=(.*)", re.DOTALL)
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")  # 01234 is a postal code
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?")
_WORDS = {"true": True, "false": False, "null": None}
_INT64 = range(-(2**63), 2**63)

Values = list[Any] | dict[str, Any]


def read_parameters(given: Sequence[str]) -> Values | None:
    """Read `name=value`, for `$name`, or `value`, for the next of `$1`, `$2`, ...; `2=value` is for `$2`.

    >>> read_parameters(["state=CA", "day=2024-01-05"])
    {'state': 'CA', 'day': datetime.date(2024, 1, 5)}
    >>> read_parameters(["7", "1.5", "true", "null", "01234", "'7'"])
    [7, 1.5, True, None, '01234', '7']

    Raises:
        ParameterError: One is given twice or is missing, or some have names and others have none.
    """
    if not given:
        return None
    values: dict[str, Any] = {}
    for position, text in enumerate(given, 1):
        named = _NAMED.fullmatch(text)
        name, value = named.groups() if named else (str(position), text)
        if name in values:
            raise ParameterError(f"parameter ${name} is given twice")
        values[name] = read_value(value)
    positions = [name for name in values if name.isdecimal()]
    if not positions:
        return values
    if len(positions) < len(values):
        name = next(name for name in values if not name.isdecimal())
        raise ParameterError(
            f"parameters either all have names or none has: got ${name} and ${positions[0]}. "
            "Text that contains = is given as 1=TEXT"
        )
    wanted = [str(number) for number in range(1, len(values) + 1)]
    if missing := next((name for name in wanted if name not in values), None):
        raise ParameterError(f"parameter ${missing} is missing: got ${', $'.join(positions)}")
    return [values[name] for name in wanted]


def read_value(text: str) -> Any:
    """Return the value that a text means; what looks like none of the types is text."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text) and int(text) in _INT64:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else _moment(text)


def _moment(text: str) -> date | datetime | str:
    """Return a date or a timestamp, or the text of what is neither, such as the 30th of February."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        return datetime.fromisoformat(text) if _TIMESTAMP.fullmatch(text) else text
    except ValueError:
        return text
