"""Views of the catalog in a session: each is planned once, and a statement that names it gets its plan.

A view is planned over the tables of the session, which are those that the caller may read. So a view gives nobody
another table's rows.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Schema

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_query.engine.datafusion_errors import planning_error
from dagfusion_query.errors import PlanError, QueryError
from dagfusion_query.sql_text import qualified

Views = Mapping[TableName, View]
PlanView = Callable[[SessionContext, str], DataFrame]


def register_views(context: SessionContext, views: Views, plan: PlanView) -> Mapping[TableName, pa.Schema | QueryError]:
    """Register views in a context that has the tables which they read.

    Args:
        context: The context.
        views: By name.
        plan: Plans the statement of one.

    Returns:
        By the name of each view: its columns, or why no statement can name it.
    """
    planned: dict[TableName, pa.Schema | QueryError] = {}
    left = dict(views)
    while ready := [name for name, view in left.items() if left.keys().isdisjoint(view.tables)]:
        for name in ready:
            planned[name] = _register(context, name, left.pop(name).sql, plan)
    for name in left:
        planned[name] = PlanError(f"view {name} reads itself, or a view that does: publish it with another statement")
    return planned


def expanded(sql: str, views: Views) -> str:
    """Return the text of a statement, and below it those of the views that it may read."""
    left = dict(views)
    texts = [sql]
    for text in texts:  # which grows
        lower = text.lower()
        named = [name for name in left if name.table in lower]
        texts += [left.pop(name).sql for name in named]
    return "\n".join(texts)


def _register(context: SessionContext, name: TableName, sql: str, plan: PlanView) -> pa.Schema | QueryError:
    try:
        frame = plan(context, sql)
        schema = frame.schema()
        if name.schema not in context.catalog().schema_names():
            context.catalog().register_schema(name.schema, Schema.memory_schema())
        context.register_view(qualified(name), frame)
    except Exception as error:  # noqa: BLE001  # DataFusion's have no class; a statement that names the view raises it
        return PlanError(
            f"view {name} cannot be planned over the tables as they are now: {planning_error(error, (), sql)}. "
            "Materialize what it reads, or publish it with another statement"
        )
    return schema
