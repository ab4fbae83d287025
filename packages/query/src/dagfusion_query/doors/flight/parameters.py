"""Parameters of a statement: `?` as DataFusion's `$1`, and one row of values under the parameters' names. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagfusion_query.errors import ParameterError

# What is no parameter comes first: text, quoted names, comments, text in dollars.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*.*?\*/
      | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
      | \$(?P<name>\w+) | (?P<mark>\?)""",
    re.VERBOSE | re.DOTALL,
)


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

    >>> parameters("select ? from t where a = '?' and b = ?")
    Parameters(sql="select $1 from t where a = '?' and b = $2", names=('1', '2'))
    >>> parameters("select $b, $a, $b").names
    ('b', 'a')
    """
    found = [token["name"] for token in _TOKEN.finditer(sql) if token["name"]]
    if not found:
        return _numbered(sql)
    numbers = [int(name) for name in found if name.isdecimal()]
    if len(numbers) == len(found) and max(numbers) <= len(sql):
        return Parameters(sql, tuple(str(number) for number in range(1, max(numbers) + 1)))
    return Parameters(sql, tuple(dict.fromkeys(found)))


def _numbered(sql: str) -> Parameters:
    names: list[str] = []

    def number(token: re.Match[str]) -> str:
        if not token["mark"]:
            return token[0]
        names.append(str(len(names) + 1))
        return f"${names[-1]}"

    return Parameters(_TOKEN.sub(number, sql), tuple(names))
