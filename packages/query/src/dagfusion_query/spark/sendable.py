"""Decides by the text of a statement whether it is sent to Spark: all checks of its tokens, in their order. Pure.

`spark_sql.py` calls it for the statement and for each view that it reads. The checks that need more than the text are
there: of the types of columns and parameters, and of what has no form in Spark's SQL.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from dagfusion_query.errors import EngineChoiceError
from dagfusion_query.spark.refused_sql import check_not_refused
from dagfusion_query.spark.shared_sql import check_shared
from dagfusion_query.spark.sql_words import check_nesting
from dagfusion_query.sql_text import SqlToken

_FIRST = frozenset({"SELECT", "WITH", "VALUES", "("})


def check_sendable(tokens: Sequence[SqlToken], times: AbstractSet[str]) -> None:
    """Check that a statement is a query that both engines read in the same way.

    Args:
        tokens: The statement, without comments.
        times: The columns of its tables and the parameters that are dates or timestamps.

    Raises:
        EngineChoiceError: It is no query, is nested too deep, has what is not known to mean the same in both engines,
            or has what they are known to read otherwise.
    """
    first = tokens[0].text.upper() if tokens else ""
    if first not in _FIRST:
        raise EngineChoiceError(
            f"a statement for the Spark engine must begin with SELECT, WITH, VALUES or FROM, got {first[:100]!r}: "
            'use engine="local"'
        )
    check_nesting(tokens)
    check_shared(tokens)
    check_not_refused(tokens, times)
