"""Parameters of a statement: `?` as DataFusion's `$1`, and one row of values under the parameters' names. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagfusion_query.errors import ParameterError
from dagfusion_query.parameters import MOST, check_count
from dagfusion_query.sql_text import Kind, tokens


@dataclass(frozen=True)
class Parameters:
    """A statement and what its parameters are called.

    Attributes:
        sql: With `$1`, `$2`, ... for each `?`, unless it has parameters of DataFusion's own kind.
        names: `1`, `2`, ... or names, in order, each once.
    """

    sql: str
    names: Sequence[str]

    def row(self, values: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return one row of values under the parameters' names, None when there is nothing to set.

        Args:
            values: One row; columns with exactly the parameters' names, else in their order.

        Raises:
            ParameterError: The number of rows or columns is not right.
        """
        if values.num_rows > 1:
            raise ParameterError(
                f"a statement runs with one row of parameters, got {values.num_rows}: execute it once for each row"
            )
        if values.num_columns != len(self.names) or (values.num_rows == 0 and self.names):
            got = values.num_columns if values.num_rows else 0
            raise ParameterError(f"the statement has {len(self.names)} parameters, got values for {got}")
        if not self.names:
            return None
        given = values.schema.names
        return values if set(given) == set(self.names) else values.rename_columns(list(self.names))

    @property
    def schema(self) -> pa.Schema:
        """The parameters as Flight SQL describes them: types are not known before there are values."""
        return pa.schema([pa.field(name, pa.null()) for name in self.names])

    @property
    def nulls(self) -> pa.RecordBatch | None:
        """One row of NULLs: a statement can be described with it."""
        if not self.names:
            return None
        return pa.RecordBatch.from_arrays([pa.nulls(1)] * len(self.names), schema=self.schema)


def parameters(sql: str) -> Parameters:
    """Find the parameters of a statement.

    Raises:
        ParameterError: There are more than 4,096.

    >>> parameters("select ? from t where a = '?' and b = ?")
    Parameters(sql="select $1 from t where a = '?' and b = $2", names=('1', '2'))
    >>> parameters("select $b, $a, $b").names
    ('b', 'a')
    """
    if "?" not in sql and "$" not in sql:
        return Parameters(sql, ())
    names: dict[str, None] = {}
    marks = 0
    for token in tokens(sql):
        if token.kind is Kind.parameter:
            names[token.text[1:]] = None
        marks += token.text == "?"
        check_count(max(marks, len(names)))
    if not names:
        return Parameters(_numbered(sql) if marks else sql, _up_to(marks))
    if all(name.isascii() and name.isdecimal() for name in names):
        # Python refuses to read very long numbers.
        return Parameters(
            sql, _up_to(max(int(name) if len(name) <= len(str(MOST)) else 10 ** len(str(MOST)) for name in names))
        )
    return Parameters(sql, tuple(names))


def _numbered(sql: str) -> str:
    """Return a statement with `$1`, `$2`, ... for each `?`."""
    pieces, end = [], 0
    marks = (token.start for token in tokens(sql) if token.text == "?")
    for number, start in enumerate(marks, 1):
        pieces += [sql[end:start], f"${number}"]
        end = start + 1
    return "".join([*pieces, sql[end:]])


def _up_to(count: int) -> tuple[str, ...]:
    check_count(count)
    return tuple(str(number) for number in range(1, count + 1))
