"""Which columns of other assets each column of a query comes from."""

import re
from collections.abc import Mapping, Sequence

import dagster as dg
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.schema import MappingSchema

from dagfusion_pipeline.sql_assets.statement import DIALECT, Reference, Statement, reference_of, tables_of

_UNNAMED = re.compile(r"_col_\d+")  # what sqlglot calls a column without a name


class _UnknownSourceError(Exception):
    """The source of a column depends on the columns of a table that is not known."""


def column_lineage(
    statement: Statement,
    keys: Mapping[Reference, dg.AssetKey],
    columns: Mapping[dg.AssetKey, Sequence[str]],
    names: Sequence[str] | None = None,
) -> dg.TableColumnLineage | None:
    """Return the lineage of a query's columns, or None if it does not follow from what is known.

    Args:
        statement: The query.
        keys: The asset of each table.
        columns: The columns of the assets that are known.
        names: The names of the query's columns, if they are known; the engine names a column that has no alias.
    """
    query, assets, schema = statement.query.copy(), dict[str, dg.AssetKey](), MappingSchema(normalize=False)
    for number, table in enumerate(tables_of(query)):
        name, key = f"table_{number}", keys[reference_of(table, "")]
        assets[name] = key
        if key in columns:
            schema.add_table(name, dict.fromkeys(columns[key], "unknown"))
        table.replace(_renamed(table, name))
    for column in query.find_all(exp.Column):
        column.set("db", None)  # the name of a table is its alias from here on
    try:
        found = lineage(None, query, schema, dialect=DIALECT, trim_selects=False)
        sources = {name: _sources(node, assets) for name, node in found.items()}
    except (SqlglotError, _UnknownSourceError):
        return None
    if names is None:
        return None if any(map(_UNNAMED.fullmatch, sources)) else dg.TableColumnLineage(sources)
    if len(names) != len(sources):
        return None
    return dg.TableColumnLineage(dict(zip(names, sources.values(), strict=True)))


def _renamed(table: exp.Table, name: str) -> exp.Table:
    """Return a mention of a table whose name has one part, and whose alias is what the query calls it."""
    renamed = table.copy()
    renamed.set("db", None)
    renamed.set("this", exp.to_identifier(name))
    if not table.alias:
        renamed.set("alias", exp.TableAlias(this=table.this.copy()))
    return renamed


def _sources(node: Node, assets: Mapping[str, dg.AssetKey]) -> list[dg.TableColumnDep]:
    sources = set[tuple[dg.AssetKey, str]]()
    for leaf in node.walk():
        if isinstance(leaf.expression, exp.Placeholder | exp.Star):
            raise _UnknownSourceError
        if isinstance(leaf.expression, exp.Table) and leaf.expression.name in assets:
            column = sqlglot.parse_one(leaf.name).name
            if column == "*":
                raise _UnknownSourceError
            sources.add((assets[leaf.expression.name], column))
    return [dg.TableColumnDep(key, column) for key, column in sorted(sources)]
