"""Asset keys to table names: pure, deterministic, idempotent, and always usable in SQL without quotes."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

# A capital starts a word after a small letter or digit ("taxID"), and before a small letter ("HTTPServer").
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")

# Words that DataFusion's parser does not take everywhere as a table's name, qualifier or alias; a test asks the parser.
RESERVED = frozenset(
    [
        "all",
        "analyze",
        "and",
        "anti",
        "any",
        "array",
        "as",
        "asof",
        "between",
        "by",
        "case",
        "cast",
        "cluster",
        "connect",
        "cross",
        "cube",
        "current_date",
        "current_time",
        "current_timestamp",
        "current_user",
        "distinct",
        "else",
        "end",
        "except",
        "exclude",
        "exists",
        "explain",
        "extract",
        "false",
        "fetch",
        "for",
        "format",
        "from",
        "full",
        "global",
        "group",
        "having",
        "in",
        "inner",
        "intersect",
        "interval",
        "into",
        "is",
        "join",
        "lateral",
        "left",
        "like",
        "limit",
        "match_condition",
        "match_recognize",
        "natural",
        "not",
        "null",
        "offset",
        "on",
        "open",
        "or",
        "order",
        "outer",
        "output",
        "partition",
        "pivot",
        "prewhere",
        "qualify",
        "recursive",
        "returning",
        "right",
        "rollup",
        "sample",
        "select",
        "semi",
        "session_user",
        "set",
        "settings",
        "some",
        "sort",
        "start",
        "struct",
        "table",
        "tablesample",
        "then",
        "top",
        "trim",
        "true",
        "union",
        "unnest",
        "unpivot",
        "user",
        "using",
        "values",
        "view",
        "when",
        "where",
        "window",
        "with",
    ]
)


class TableName(NamedTuple):
    """A table's qualified name, such as `uat_silver_tax_id.raw_organizations`."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def table_name(environment: str, asset_key: Sequence[str]) -> TableName:
    """Name the table of an asset.

    Args:
        environment: Such as `uat`; the first word of the schema.
        asset_key: At least one component; the last is the table, those before it the schema. A key of one component
            belongs to the schema `{environment}_default`.

    Raises:
        ValueError: The key has no component.

    >>> str(table_name("uat", ["Silver", "TaxID", "raw_organizations"]))
    'uat_silver_tax_id.raw_organizations'
    """
    if not asset_key:
        raise ValueError("asset_key must have at least one component, got none")
    *folders, table = asset_key
    return TableName(
        identifier("_".join([identifier(part) for part in (environment, *(folders or ["default"]))])), identifier(table)
    )


def identifier(text: str) -> str:
    """Turn any text into an SQL identifier that needs no quotes: snake case that knows acronyms.

    Letters lose their accents; letters of other alphabets become their code points, so that different texts stay apart.
    A leading digit is prefixed and a reserved word is suffixed with an underscore. `identifier(identifier(x)) ==
    identifier(x)` for every text.

    >>> [identifier(text) for text in ("TaxID", "HTTPServerLog", "raw_organizations", "2024 Sales", "order", "Größe")]
    ['tax_id', 'http_server_log', 'raw_organizations', '_2024_sales', 'order_', 'grosse']
    """
    letters = "".join(map(_ascii, unicodedata.normalize("NFKD", text)))
    words = _NOT_IN_A_NAME.sub("_", _WORD_START.sub("_", letters).lower()).strip("_") or "unnamed"
    if words[0].isdigit():
        return f"_{words}"
    return f"{words}_" if words in RESERVED else words


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.combining(character):
        return ""
    decomposed = unicodedata.normalize("NFKD", character.casefold())
    if decomposed.isascii():
        return decomposed
    return f"_u{ord(character):x}_" if character.isalnum() else "_"


def find_column(name: str, columns: Sequence[str]) -> str | None:
    """Return the column of a name: exactly, or else the only one that differs in case, as SQL engines find it.

    >>> find_column("DATE", ["date", "n"]), find_column("a", ["A", "a"]), find_column("x", ["y"])
    ('date', 'a', None)
    """
    if name in columns:
        return name
    alike = [column for column in columns if column.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None
