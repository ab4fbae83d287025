"""Parses a statement to a DataFrame of a session, with the constants that DataFusion would read wrongly corrected."""

from functools import partial

import pyarrow as pa
from datafusion import DataFrame, LogicalPlan, SessionContext

from dagfusion_query.engine.constant_faults import may_change, read_in_context
from dagfusion_query.engine.datafusion_errors import is_syntax_error
from dagfusion_query.engine.reuse import parameters_key
from dagfusion_query.engine.session import READ_ONLY
from dagfusion_query.errors import PlanError
from dagfusion_query.parameters import Values, unfit
from dagfusion_query.sql_text import with_select


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
    return (read_in_context(frame, context) if may_change(text, values) else frame), is_explain


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
        PlanError: There are none.
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
