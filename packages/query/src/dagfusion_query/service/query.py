"""What the doors ask the service; values only."""

from dataclasses import dataclass

import pyarrow as pa

from dagfusion_query.formats.result_format import Format


@dataclass(frozen=True)
class Query:
    """One statement to run.

    Attributes:
        params: One row; columns are called `1`, `2`, ... for `$1`, `$2`, ..., or by the parameters' names.
        timeout_s: Seconds it may take, if that is less than the service allows.
        limit_rows: Rows after which the result is cut, without an error; None for all.
    """

    sql: str
    params: pa.RecordBatch | None = None
    format: Format = Format.arrow
    timeout_s: float | None = None
    limit_rows: int | None = None
