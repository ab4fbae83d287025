"""The engine: SQL over one generation of the catalog."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, LogicalPlan, SessionContext

from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.engine.diagnose import diagnose, probe
from dagfusion_query.engine.execute import Execution, StalledError
from dagfusion_query.engine.fallback import fall_back
from dagfusion_query.engine.plan_cache import PlanCache, is_repeatable, parameters_key
from dagfusion_query.engine.runtime import PLANNERS, Loop, Planners
from dagfusion_query.engine.session import READ_ONLY, Bound, Sessions
from dagfusion_query.engine.statement import check_text, is_datafusion_error, missing_schema, planning_error
from dagfusion_query.engine.stores import Stores
from dagfusion_query.errors import EnvironmentUnavailableError, PlanError, UnknownTableError
from dagfusion_query.scan.scanned import Scan
from dagfusion_query.scan.splice import Breadth, NotSpliceable, Spliced, decode, splice
from dagfusion_query.settings import Settings

Params = Sequence[Any] | Mapping[str, Any] | None
Values = Mapping[str, pa.Scalar]
T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A statement planned over the files of one generation, ready to run.

    Attributes:
        schema: The result's columns.
        scans: What it reads.
        logical: DataFusion's optimized logical plan.
        is_explain: The statement was EXPLAIN, and this is the plan of the statement inside of it.
    """

    schema: pa.Schema
    scans: Sequence[Scan]
    logical: LogicalPlan
    is_explain: bool
    bound: Bound
    spliced: Spliced | None
    frame: DataFrame

    @property
    def size_bytes(self) -> int:
        """Bytes that the plan keeps in memory, about: the encoded plan, and the objects that DataFusion made of it."""
        return 16_384 + 2 * (len(self.spliced.plan) if self.spliced is not None else 1 << 20)

    @property
    def is_analysis(self) -> bool:
        """Whether the statement is EXPLAIN ANALYZE, whose result is plans."""
        return _is(self.logical, "Analyze")

    @property
    def physical(self) -> ExecutionPlan:
        """DataFusion's physical plan over the real files."""
        return self.frame.execution_plan() if self.spliced is None else decode(self.spliced, self.bound.context)


class Engine:
    """Plans and runs statements. Thread-safe.

    Args:
        settings: Limits and caches.
        environments: Where the objects of each environment are; only those of `settings` by default.
        planners: How many statements can be planned at once.
    """

    def __init__(
        self, settings: Settings, environments: Mapping[str, Settings] | None = None, planners: int = PLANNERS
    ) -> None:
        self._settings = settings
        self._stores = Stores({settings.environment: settings} if environments is None else environments)
        self._sessions = Sessions(settings, self._stores)
        self._planners = Planners(planners)
        self._loop = Loop()
        self._breadth = Breadth(settings.parallelism, settings.scan_concurrency, settings.scan_window_bytes)
        self._plans: dict[Bound, PlanCache[Prepared]] = {}
        self._lock = threading.Lock()
        self.cached_plans = 0  # how often a statement's plan was there already

    def prepare(self, sql: str, params: Params, snapshot: Snapshot) -> Prepared:
        """Plan a statement over the files that its filters keep.

        Raises:
            StatementError: The statement cannot be run as it is written.
            QueryError: A table that it names has a problem.
        """
        check_text(sql)
        with self._lock:
            bound = self._sessions.bind(snapshot)
            plans = self._plans_of(bound)
        values = _values(params)
        key = (sql, _key(values))
        if (known := plans.get(key)) is not None:
            self.cached_plans += 1
            return known
        prepared = self._guarded(lambda: self._plan(sql, values, bound), bound, sql)
        if is_repeatable(sql):
            plans.put(key, prepared)
        return prepared

    def _plans_of(self, bound: Bound) -> PlanCache[Prepared]:
        """Return the plans over one generation; those over generations that nobody asks for any more are dropped."""
        if bound not in self._plans:
            kept = {other: plans for other, plans in self._plans.items() if other in self._sessions.bounds}
            self._plans = {**kept, bound: PlanCache(self._settings.plan_cache_bytes // (1 + len(kept)))}
        return self._plans[bound]

    def start(self, prepared: Prepared) -> "Run":
        """Start a run of a planned statement."""
        return self._guarded(lambda: self._started(prepared), prepared.bound)

    def _started(self, prepared: Prepared) -> "Run":
        stall_s = self._settings.store_stall_s
        if prepared.spliced is None:
            execution = Execution(prepared.frame.execute_stream(), self._loop, stall_s)
        else:
            context, plan = prepared.bound.context, prepared.physical
            execution = Execution(context.execute(plan, 0), self._loop, stall_s, plan)
        return Run(execution, prepared, self._stores)

    def close(self) -> None:
        """End the threads and remove the templates."""
        self._planners.close()
        self._loop.close()
        self._sessions.close()

    def _guarded(self, step: Callable[[], T], bound: Bound, sql: str = "") -> T:
        """Take a step of planning on a deep stack, and say what is wrong in this package's errors."""
        try:
            return self._planners.run(step)
        except BaseException as error:
            if not is_datafusion_error(error):
                raise
            wrong = planning_error(error, bound.snapshot.tables, sql)
            if isinstance(wrong, UnknownTableError):
                _raise_problem(str(error), bound.snapshot)
            raise wrong from error

    def _plan(self, sql: str, values: Values, bound: Bound) -> Prepared:
        def read(context: SessionContext) -> DataFrame:
            frame = _read(context, sql, values)
            return _inside(frame, context) if is_explain else frame

        is_explain = False
        frame = read(bound.context)
        if is_explain := _is(frame.logical_plan(), "Explain"):
            frame = _inside(frame, bound.context)
        optimized = frame.optimized_logical_plan()
        try:
            spliced = splice(optimized, bound.context, [*bound.tables.values()], self._breadth)
        except NotSpliceable:
            frame, scans = fall_back(optimized, bound, self._settings, self._stores, read)
            return Prepared(
                _schema(frame.optimized_logical_plan(), bound.context), scans, optimized, is_explain, bound, None, frame
            )
        for scan in spliced.scans:
            if (store := bound.tables[scan.table.name].store) is not None:
                self._stores.register(bound.context, scan.table.environment, store)
        return Prepared(_schema(optimized, bound.context), spliced.scans, optimized, is_explain, bound, spliced, frame)


class Run:
    """One run of a planned statement, whose errors say what is wrong with which object."""

    def __init__(self, execution: Execution, prepared: Prepared, stores: Stores) -> None:
        self._execution, self._stores = execution, stores
        self._scans, self._schema = prepared.scans, prepared.schema

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            StaleObjectError: An object is gone or has changed since its event.
            StoreUnavailableError: The object store does not answer.
            ExecutionError: The statement failed.
        """
        while True:
            try:
                batch = self._execution.next()
            except StalledError:
                if (why := probe(self._scans, self._stores)) is not None:
                    self._execution.cancel()
                    raise why from None
            except Exception as error:
                raise diagnose(error, self._scans, self._stores) from error
            else:
                return batch if batch is None or batch.schema == self._schema else self._declared(batch)

    def _declared(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give a batch the result's schema: DataFusion's own differs now and then in what may be NULL."""
        return pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)

    def wait(self, timeout_s: float) -> bool:
        """Have the next batch made while something else is done; tell whether it is there within this time."""
        return self._execution.wait(timeout_s)

    def cancel(self) -> None:
        """Give the run up. May be called on another thread."""
        self._execution.cancel()

    @property
    def bytes_read(self) -> int:
        """Bytes asked of the object store so far; the size of the files where the engine does not count."""
        counted = self._execution.bytes_read
        return sum(scan.bytes for scan in self._scans) if counted is None else counted


def _read(context: SessionContext, sql: str, values: Values) -> DataFrame:
    try:
        return context.sql_with_options(sql, READ_ONLY, param_values=dict(values) or None)
    except pa.ArrowException as error:
        raise _unfit(values) from error


def _key(values: Values) -> bytes:
    try:
        return parameters_key(values)
    except pa.ArrowException as error:
        raise _unfit(values) from error


def _unfit(values: Values) -> PlanError:
    kinds = ", ".join(f"${name} is {value.type}" for name, value in values.items())
    return PlanError(f"a parameter has a type that no parameter can have: {kinds}")


def _schema(optimized: LogicalPlan, context: SessionContext) -> pa.Schema:
    """Return the columns of a result as they will be: coercion, which is part of optimizing, may change their types."""
    return context.create_dataframe_from_logical_plan(optimized).schema()


def _is(plan: LogicalPlan, kind: str) -> bool:
    try:
        return type(plan.to_variant()).__name__ == kind
    except Exception:  # noqa: BLE001  # a node that Python has no class for
        return False


def _inside(frame: DataFrame, context: SessionContext) -> DataFrame:
    """Return the statement inside of an EXPLAIN."""
    return context.create_dataframe_from_logical_plan(frame.logical_plan().inputs()[0])


def _values(params: Params) -> Values:
    """Return parameters by name: `$1`, `$2`, ... for a sequence."""
    if params is None:
        return {}
    named = params.items() if isinstance(params, Mapping) else ((str(i), v) for i, v in enumerate(params, 1))
    return {name: _scalar(value) for name, value in named}


def _scalar(value: Any) -> pa.Scalar:
    try:
        return value if isinstance(value, pa.Scalar) else pa.scalar(value)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError) as error:
        raise PlanError(f"a parameter of type {type(value).__name__} has no Arrow type: {error}") from error


def _raise_problem(text: str, snapshot: Snapshot) -> None:
    """Raise what is wrong with a table that is named, known and not queryable."""
    for name, table in snapshot.tables.items():
        if table.problem is not None and str(name) in text:
            raise table.problem
    for name, problem in snapshot.problems.items():
        if str(name) in text:
            raise problem
    schema = missing_schema(text)
    for environment, problem in snapshot.unavailable.items():
        if schema is not None and schema.startswith(f"{environment}_"):
            raise EnvironmentUnavailableError(str(problem)) from problem
