"""Parameters of a statement as Arrow values: `$1`, `$2`, ... for a sequence, `$name` for a mapping. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from dagfusion_query.errors import ParameterError

Params = Sequence[Any] | Mapping[str, Any] | None
Values = Mapping[str, pa.Scalar]
MOST = 4096
_GREATEST_INT64 = (1 << 63) - 1


def scalars(params: Params) -> Values:
    """Return parameters by name, without the `$`.

    Args:
        params: Python values or Arrow scalars.

    Raises:
        ParameterError: One cannot be written as an Arrow value.
    """
    if params is None:
        return {}
    named = params.items() if isinstance(params, Mapping) else enumerate(params, 1)
    return {str(name): scalar(str(name), value) for name, value in named}


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
            case int() if value > _GREATEST_INT64:
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
    """Look whether a statement may have so many parameters: each is a column, and all doors wait while they are made.

    Raises:
        ParameterError: It may not.
    """
    if count > MOST:
        raise ParameterError(f"a statement may have at most {MOST:,} parameters, got {count:,} or more")
