"""Parameters of a statement as Arrow values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from dagfusion_query.errors import PlanError

Params = Sequence[Any] | Mapping[str, Any] | None
Values = Mapping[str, pa.Scalar]
_GREATEST_INT64 = (1 << 63) - 1


def arrow_values(params: Params) -> Values:
    """Return parameters by name; those of a sequence are named `1`, `2`, ...

    Raises:
        PlanError: A value cannot be written as an Arrow value.
    """
    if params is None:
        return {}
    named = params.items() if isinstance(params, Mapping) else ((str(i), v) for i, v in enumerate(params, 1))
    return {name: _scalar(value) for name, value in named}


def _scalar(value: Any) -> pa.Scalar:
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
        raise PlanError(f"a parameter of type {type(value).__name__} has no Arrow type: {error}") from error
