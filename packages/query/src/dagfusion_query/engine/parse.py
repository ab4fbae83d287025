"""Parses statements, and plans the views of the catalog that they name.

A view is planned when a statement names it first, and then stands for its plan. It is planned over the tables of the
session. A session has only tables that its caller may read, so the rows of a view come from these tables.
"""

import threading
from collections.abc import Collection, Mapping
from functools import partial

import pyarrow as pa
from datafusion import DataFrame, LogicalPlan, SessionContext, SQLOptions
from datafusion.catalog import Schema

from dagfusion_client.errors import PlanError, QueryError
from dagfusion_client.parameters import Values, unfit
from dagfusion_client.sql_text import names, qualified, with_select
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_query.engine.datafusion_errors import is_datafusion_error, is_syntax_error, planning_error
from dagfusion_query.engine.logical_plan_faults import may_change, read_in_context
from dagfusion_query.engine.reuse import parameters_key

READ_ONLY = SQLOptions().with_allow_ddl(allow=False).with_allow_dml(allow=False).with_allow_statements(allow=False)
Views = Mapping[TableName, View]


def parsed(context: SessionContext, sql: str, values: Values, text: str) -> tuple[DataFrame, bool]:
    """Parse a statement.

    Args:
        context: The session, in which the views that the statement names are planned.
        sql: The statement.
        values: Its parameters.
        text: The statement, and below it the text of these views.

    Returns:
        The statement, or the one inside of an EXPLAIN, and True if it was an EXPLAIN.
    """
    frame = _read(context, sql, values)
    if is_explain := is_node(frame.logical_plan(), "Explain"):
        frame = context.create_dataframe_from_logical_plan(frame.logical_plan().inputs()[0])
    return (read_in_context(frame, context, text) if may_change(text, values) else frame), is_explain


def key_of(values: Values) -> bytes:
    """Return parameters as bytes that are equal only for equal ones; see `parameters_key`.

    Raises:
        ParameterError: A value has a type that a parameter cannot have.
    """
    try:
        return parameters_key(values)
    except pa.ArrowException as error:
        raise unfit(values) from error


def result_schema(optimized: LogicalPlan, context: SessionContext) -> pa.Schema:
    """Return the columns of a result as they will be: coercion, which is part of optimizing, may change their types.

    Raises:
        PlanError: The result has no columns.
    """
    schema = context.create_dataframe_from_logical_plan(optimized).schema()
    if not schema.names:
        raise PlanError("the result has no columns: name them after SELECT, or write SELECT *")
    return schema


def is_node(plan: LogicalPlan, kind: str) -> bool:
    """Return True if the root of a plan is a node of this kind."""
    try:
        return type(plan.to_variant()).__name__ == kind
    except Exception:  # noqa: BLE001  # a node that Python has no class for
        return False


def _read(context: SessionContext, sql: str, values: Values) -> DataFrame:
    parse = partial(context.sql_with_options, options=READ_ONLY, param_values=dict(values) or None)
    complete = with_select(sql)
    try:
        try:
            return parse(complete)
        except ValueError as error:
            if complete == sql or not is_syntax_error(error):
                raise
            return parse(sql)  # whose errors have the positions of what was written
    except pa.ArrowException as error:
        raise unfit(values) from error


def expanded(sql: str, views: Views) -> str:
    """Return the text of a statement, and below it those of views."""
    return "\n".join([sql, *(view.sql for view in views.values())])


def named_views(sql: str, views: Views) -> Views:
    """Return the views that a statement may read, also through others."""
    left, found = dict(views), dict[TableName, View]()
    texts = [sql] if left else []
    for text in texts:  # which grows
        mentioned = {name.lower() for name in names(text)}
        views_of_text = [name for name in left if name.table.lower() in mentioned]
        found |= {name: left.pop(name) for name in views_of_text}
        texts += [found[name].sql for name in views_of_text]
    return found


class ViewPlans:
    """The views of a context. Thread-safe.

    Args:
        context: Has the tables that the views read.
        views: By name.
        options: The kinds of statements that a view may be.
    """

    def __init__(self, context: SessionContext, views: Views, options: SQLOptions) -> None:
        self._context, self._views, self._options = context, views, options
        self._problems: dict[TableName, QueryError | None] = {}  # of the views that were planned
        self._lock = threading.Lock()

    def plan(self, names: Collection[TableName]) -> None:
        """Plan views that are not planned yet, each after those that it reads. To be called on a deep stack.

        A view that cannot be planned has a problem then, and is not in the context.
        """
        if not names:
            return
        with self._lock:
            left = [name for name in names if name not in self._problems]
            while ready := [name for name in left if not set(left) & {*self._views[name].tables}]:
                for name in ready:
                    self._problems[name] = self._register(name, self._views[name].sql)
                left = [name for name in left if name not in ready]
            for name in left:
                self._problems[name] = PlanError(
                    f"view {name} reads itself, or a view that does: publish it with another statement"
                )

    def problem(self, name: TableName) -> QueryError | None:
        """Return why a view that a statement names cannot be read."""
        return self._problems.get(name)

    def _register(self, name: TableName, sql: str) -> QueryError | None:
        try:
            frame = self._context.sql_with_options(sql, self._options)
            if name.schema not in self._context.catalog().schema_names():
                self._context.catalog().register_schema(name.schema, Schema.memory_schema())
            self._context.register_view(qualified(name), frame)
        except BaseException as error:
            if not is_datafusion_error(error):
                raise
            why = str(planning_error(error, self._views[name].tables, sql)).rstrip(".")
            return PlanError(
                f"view {name} cannot be planned over the tables that it reads: {why}. "
                "Materialize what it reads, or publish it with another statement"
            )
        return None
