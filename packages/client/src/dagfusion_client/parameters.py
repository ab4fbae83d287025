"""Parameters of a statement: Python values and JSON as Arrow values, and Arrow values as JSON. Pure.

A sequence is `$1`, `$2`, ..., and a mapping `$name`. The service reads JSON strictly, and clients write it.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa

from dagfusion_client.errors import ParameterError
from dagfusion_contract.arrow_types import parse_flat_type

Params = Sequence[Any] | Mapping[str, Any] | None
Values = Mapping[str, pa.Scalar]
MOST = 4096
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def scalars(params: Params) -> Values:
    """Return parameters by name, without the `$`.

    Args:
        params: Python values or Arrow scalars.

    Raises:
        ParameterError: One cannot be written as an Arrow value.
    """
    if params is None:
        return {}
    pairs = params.items() if isinstance(params, Mapping) else enumerate(params, 1)
    return {str(name): scalar(str(name), value) for name, value in pairs}


def scalar(name: str, value: object) -> pa.Scalar:
    """Return one parameter's value.

    Raises:
        ParameterError: It cannot be written as an Arrow value.
    """
    try:
        match value:
            case pa.Scalar():
                return value
            case np.generic():
                return pa.array(np.asarray([value]))[0]
            case int() if value >= _INT64.stop:
                return pa.scalar(value, pa.uint64())
            case datetime() if value != value:  # noqa: PLR0124 - NaT of pandas
                return pa.scalar(None, pa.timestamp("us"))
        return pa.scalar(value)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ParameterError(f"parameter ${name} of type {type(value).__name__} has no Arrow type: {error}") from error


def row(values: Values) -> pa.RecordBatch:
    """Return parameters as one row, whose columns have their names.

    Raises:
        ParameterError: One has a type that no parameter can have.
    """
    try:
        columns = [pa.array([value], value.type) for value in values.values()]
    except pa.ArrowException as error:
        raise unfit(values) from error
    return pa.RecordBatch.from_arrays(columns, names=[*values])


def unfit(values: Values) -> ParameterError:
    """Return the error of parameters of which one has a type that none can have."""
    kinds = ", ".join(f"${name} is {value.type}" for name, value in values.items())
    return ParameterError(f"a parameter has an unsupported type: {kinds}")


def check_count(count: int) -> None:
    """Check the number of parameters: each is a column, and all doors wait while they are made.

    Raises:
        ParameterError: The statement has more than 4,096 parameters.
    """
    if count > MOST:
        raise ParameterError(f"a statement may have at most {MOST:,} parameters, got {count:,} or more")


def read_params(params: object) -> pa.RecordBatch | None:
    """Read `params`: a list for `$1`, `$2`, ..., or an object for `$name`.

    A value is a JSON scalar (null, true, a number, a text) or `{"type": "date32[day]", "value": "2024-01-15"}`.

    Raises:
        ParameterError: One cannot be read; the message says which.
    """
    if params is None:
        return None
    if isinstance(params, list):
        values = {str(number): value for number, value in enumerate(params, 1)}
    elif isinstance(params, dict):
        values = params
    else:
        raise ParameterError(f"params must be a list or an object, got {_kind(params)}")
    if not values:
        return None
    check_count(len(values))
    return row({_name(name): _read(name, value) for name, value in values.items()})


def write_params(params: Params) -> list[object] | dict[str, object] | None:
    """Write parameters so that `read_params` gives the same.

    Args:
        params: Python values or Arrow scalars.

    Raises:
        ParameterError: One has no form in JSON.
    """
    if params is None:
        return None
    if isinstance(params, Mapping):
        return {str(name): _write(str(name), value) for name, value in params.items()}
    return [_write(str(number), value) for number, value in enumerate(params, 1)]


def _read(name: str, value: object) -> pa.Scalar:
    if isinstance(value, dict):
        return _typed(name, value)
    if value is None or isinstance(value, bool | float):
        return pa.scalar(value)
    if isinstance(value, str):
        return pa.scalar(_text(name, value))
    if isinstance(value, int):
        if value in _INT64:
            return pa.scalar(value, pa.int64())
        if value in _UINT64:
            return pa.scalar(value, pa.uint64())
        raise ParameterError(
            f'parameter ${name} has more than 64 bits: send {{"type": "decimal128(38, 0)", "value": "..."}}'
        )
    raise ParameterError(
        f'parameter ${name} must be a JSON scalar or {{"type": ..., "value": ...}}, got {_kind(value)}'
    )


def _typed(name: str, spec: dict[str, object]) -> pa.Scalar:
    if spec.keys() != {"type", "value"} or not isinstance(spec["type"], str):
        raise ParameterError(
            f'parameter ${name} must be {{"type": <the name of an Arrow type>, "value": ...}}, got the fields '
            f"{', '.join(sorted(spec)) or 'none'}"
        )
    kind = parse_flat_type(spec["type"])
    reader = None if kind is None else next((read for matches, read in _READERS if matches(kind)), None)
    if reader is None:
        raise ParameterError(f"parameter ${name} has an unsupported type: {spec['type'][:100]!r}")
    value = spec["value"]
    if value is None:
        return pa.scalar(None, kind)
    try:
        return reader(value, kind)
    except (pa.ArrowException, ValueError, OverflowError, InvalidOperation, _NotOneError) as error:
        raise ParameterError(f"parameter ${name} must be {kind}, got {str(value)[:100]!r}") from error


class _NotOneError(Exception):
    """A value has another JSON type than its Arrow type is written as."""


def _of(*python: type) -> Callable[[object], Any]:
    """Return a check that a value has one of the types; a bool is no number."""

    def check(value: object) -> Any:
        if not isinstance(value, python) or (isinstance(value, bool) and bool not in python):
            raise _NotOneError
        return value

    return check


def _float(value: object, kind: pa.DataType) -> pa.Scalar:
    if isinstance(value, str):
        return pa.scalar(_SPECIAL_FLOATS[value] if value in _SPECIAL_FLOATS else _of()(value), kind)
    return pa.scalar(float(_of(int, float)(value)), pa.float64()).cast(kind)


def _binary(value: object, kind: pa.DataType) -> pa.Scalar:
    try:
        return pa.scalar(base64.b64decode(_of(str)(value), validate=True), kind)
    except binascii.Error as error:
        raise _NotOneError from error


def _decimal(value: object, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(Decimal(_of(str, int)(value)), kind)


def _time(value: object, kind: pa.DataType) -> pa.Scalar:
    """Read a time of day as a moment of some day: Arrow casts no text to a time."""
    text = _of(str)(value)
    if not text[:1].isdecimal():
        raise _NotOneError
    return pa.scalar(f"1970-01-01 {text}").cast(pa.timestamp(kind.unit)).cast(kind)


_READERS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[object, pa.DataType], pa.Scalar]]] = (
    (pa.types.is_boolean, lambda value, kind: pa.scalar(_of(bool)(value), kind)),
    (pa.types.is_integer, lambda value, kind: pa.scalar(_of(int)(value), kind)),
    (pa.types.is_floating, _float),
    (pa.types.is_string, lambda value, kind: pa.scalar(_of(str)(value), kind)),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind), _binary),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_duration, lambda value, kind: pa.scalar(_of(int)(value), pa.int64()).cast(kind)),
    (pa.types.is_time, _time),
    (pa.types.is_temporal, lambda value, kind: pa.scalar(_of(str)(value), pa.string()).cast(kind)),
)


def _write(name: str, value: object) -> object:
    typed = scalar(name, value)
    kind = _plain_type(typed.type)
    written = _json(typed.cast(kind))
    if written is None:
        return None if pa.types.is_null(kind) else {"type": str(kind), "value": None}
    if kind in (pa.int64(), pa.bool_(), pa.string()) or (kind == pa.float64() and not isinstance(written, str)):
        return written
    if not any(matches(kind) for matches, _ in _READERS):
        raise ParameterError(f"parameter ${name} has an unsupported type: {str(kind)[:100]!r}")
    return {"type": str(kind), "value": written}


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that is written for one of several that mean the same."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def _json(scalar: pa.Scalar) -> object:
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_floating(kind):
        value = float(scalar.as_py())
        return (
            value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if pa.types.is_duration(kind):
        return scalar.cast(pa.int64()).as_py()
    if pa.types.is_temporal(kind):
        return scalar.cast(pa.string()).as_py()
    value = scalar.as_py()
    return (
        base64.b64encode(value).decode()
        if isinstance(value, bytes)
        else str(value)
        if isinstance(value, Decimal)
        else value
    )


def _name(name: str) -> str:
    return _text(name, name)


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(f"parameter ${name.encode('ascii', 'replace').decode()} is no Unicode text") from error
    return value


def _kind(value: object) -> str:
    """Name a JSON value's type."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")
