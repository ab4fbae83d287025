"""The engine: SQL over one generation of the catalog."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

import pyarrow as pa
from datafusion import DataFrame, ExecutionPlan, LogicalPlan

from dagfusion_client.errors import EnvironmentUnavailableError, PlanError, UnknownTableError
from dagfusion_client.parameters import Params, Values, scalars
from dagfusion_client.returned_values import Explanation
from dagfusion_contract.handover_loop import HandoverLoop
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.engine.copy_requests import RequestTime
from dagfusion_query.engine.datafusion_errors import (
    is_datafusion_error,
    is_full_disk,
    left_out_column,
    missing_table,
    no_room_to_plan,
    planning_error,
)
from dagfusion_query.engine.object_requests import ObjectRequests, copy_policy
from dagfusion_query.engine.parse import expanded, is_node, key_of, named_views, parsed, result_schema
from dagfusion_query.engine.plan_execution import (
    Batches,
    Execution,
    ExecutionContext,
    Finished,
    frame_batches,
    spliced_batches,
    staged_batches,
)
from dagfusion_query.engine.reuse import Keeper, PlanCache, ResultCache, identity, is_repeatable
from dagfusion_query.engine.runtime import PLANNERS, Loop, Planners, Stores
from dagfusion_query.engine.session import BoundSession, Session, Sessions
from dagfusion_query.engine.stored_objects import refuse_replaced
from dagfusion_query.object_cache import CACHE
from dagfusion_query.object_cache.copies import open_copies, open_results
from dagfusion_query.redact import with_names
from dagfusion_query.scan.archived_files import warnings_of
from dagfusion_query.scan.copied_objects import ScanReads
from dagfusion_query.scan.parquet_scan import Breadth
from dagfusion_query.scan.splice import NotSpliceable, Planning, Spliced, splice
from dagfusion_query.scan.stage import Staged, names_a_table, stage
from dagfusion_query.scan.table_scan import Scan
from dagfusion_query.settings import Settings

RunPath = Literal["splice", "catalog", "staged"]
INPUT_FILE_NAME = "input_file_name"  # the function
AVOID_S = 300.0  # that the large objects of a table are not read, after one of them could not be


@dataclass(frozen=True)
class Prepared:
    """A statement planned over the files of one generation, ready to run.

    Attributes:
        schema: The result's columns.
        scans: What it reads.
        work: The plan that runs; None for a statement that names no table and whose plan does not serialize.
        logical: DataFusion's optimized logical plan.
        is_explain: The statement was EXPLAIN, and this is the plan of the statement inside of it.
        is_repeatable: The statement has the same result as long as its tables have the same rows.
        statement: Its text, with those of the views that it may read, and its parameters.
    """

    schema: pa.Schema
    scans: Sequence[Scan]
    logical: LogicalPlan
    is_explain: bool
    is_repeatable: bool
    statement: tuple[str, bytes]
    bound: BoundSession
    work: Spliced | Staged | None
    frame: DataFrame

    @property
    def size_bytes(self) -> int:
        """Bytes that the plan keeps in memory, about: the encoded plan, and the objects that DataFusion made of it."""
        return 16_384 + 2 * (self.work.size_bytes if self.work is not None else 0)

    @property
    def spliced(self) -> Spliced | None:
        """The physical plan; None where the statement is staged or names no table."""
        return self.work if isinstance(self.work, Spliced) else None

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of the result: what it leaves out, and why."""
        return warnings_of(scan.left_out for scan in self.scans)

    @property
    def path(self) -> RunPath:
        """The way the statement runs."""
        if isinstance(self.work, Staged) and self.work.stages:
            return "staged"
        return "splice" if any(scan.count for scan in self.scans) else "catalog"

    @cached_property
    def identity(self) -> str | None:
        """The identity that equal plans over the same object versions share; None if the result is not repeatable."""
        if self.spliced is None or self.is_analysis or not self.is_repeatable:
            return None
        sql, parameters = self.statement
        statement = sql.encode() + b"\0" + parameters
        return identity(self.spliced.plan, statement, self.schema, self.scans)

    @cached_property
    def is_analysis(self) -> bool:
        """True if the statement is EXPLAIN ANALYZE, whose result is plans."""
        return is_node(self.logical, "Analyze")

    def shown(self, text: str) -> str:
        """Return a text on the plan with the names of objects and tables in place of the paths of local files."""
        copied = self.work.copied if isinstance(self.work, Spliced) else ()
        return with_names(text, dict(named for scan in copied for named in scan.objects))

    @property
    def physical(self) -> ExecutionPlan:
        """DataFusion's physical plan over the real files."""
        if self.spliced is None:
            return self.frame.execution_plan()
        return ExecutionPlan.from_bytes(self.bound.context, self.spliced.plan)


class Engine:
    """Plans and runs statements. Thread-safe.

    Args:
        settings: Limits and caches.
        environments: Where the objects of each environment are; only those of `settings` by default.
        planners: How many statements can be planned at once.
        now: Returns the time by which archived objects are left out.
        new_loop: Makes the event loop of executions.
    """

    def __init__(
        self,
        settings: Settings,
        environments: Mapping[str, Settings] | None = None,
        planners: int = PLANNERS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_loop: Callable[[], asyncio.AbstractEventLoop] = HandoverLoop,
    ) -> None:
        self._settings = settings
        environments = {settings.environment: settings} if environments is None else environments
        self._stores = Stores(environments)
        self._planners = Planners(planners)
        archived_after = {name: each.archived_after_days for name, each in environments.items()}
        self._sessions = Sessions(settings, self._stores, archived_after, now)
        self._loop = Loop(new_loop)
        self._breadth = Breadth(settings.parallelism, settings.scan_concurrency, settings.scan_window_bytes)
        copies = open_copies(settings)
        self._objects = ObjectRequests(self._stores, copies, settings.scan_concurrency)
        self._policy = None if copies is None else copy_policy(copies, settings)
        results = open_results(settings)
        kept_bytes = settings.result_cache_result_bytes, settings.result_cache_memory_bytes
        self._results = None if results is None else ResultCache(results, *kept_bytes)
        self._plans: dict[BoundSession, PlanCache[Prepared]] = {}
        self._lock = threading.Lock()
        self._avoided: dict[TableName, float] = {}  # tables whose large objects are not read, and until when
        self.cached_plans = 0  # how often a statement's plan was there already

    def prepare(self, sql: str, params: Params, snapshot: Snapshot, current: Snapshot | None = None) -> Prepared:
        """Plan a statement over the files that its filters keep.

        Args:
            sql: The statement, checked by `check_text`.
            params: Its parameters.
            snapshot: The tables.
            current: The current generation, if `snapshot` is a past one.

        Raises:
            StatementError: The statement cannot be run as it is written.
            ResourcesError: The folder for temporary files is full.
            QueryError: A table that it names has a problem.
        """
        values = scalars(params)
        key = (sql, key_of(values))
        try:
            with self._lock:
                bound = self._sessions.bind(snapshot)
                plans = self._plans_of(bound)
            prepared = plans.get(key)
            if prepared is not None:
                self.cached_plans += 1
            else:
                with _clear_errors(bound, sql, current):
                    prepared = self._planners.run(lambda: self._plan(key, values, bound))
                if prepared.is_repeatable:
                    plans.put(key, prepared)
        except OSError as error:
            if not is_full_disk(error):
                raise
            raise no_room_to_plan() from error
        if current is not None:
            refuse_replaced(prepared.scans, current)
        return prepared

    def _plans_of(self, bound: BoundSession) -> PlanCache[Prepared]:
        """Return the plans over one generation; those over generations that are no longer in use are dropped."""
        if bound not in self._plans:
            current = {other: plans for other, plans in self._plans.items() if other in self._sessions.bound_sessions}
            self._plans = {**current, bound: PlanCache(self._settings.plan_cache_bytes // (1 + len(current)))}
        return self._plans[bound]

    def run(
        self, prepared: Prepared, *, result_cache: bool = True, cancelled: threading.Event | None = None
    ) -> Batches:
        """Start an execution of a planned statement, or return its result if that was kept.

        While an equal statement runs, in whatever process, wait for its result.

        Args:
            prepared: The statement.
            result_cache: Whether a result may be taken that was kept, or be kept.
            cancelled: Ends the wait when it is set.
        """
        keeper: Keeper | None = None
        if self._results is not None and result_cache and prepared.identity is not None:
            found = self._results.find_or_keep(prepared.identity, prepared.schema, cancelled or threading.Event())
            if isinstance(found, pa.Table):
                return Finished(found, CACHE)
            keeper = found
        execution_context = ExecutionContext(
            prepared.bound.context,
            self._planners,
            self._loop,
            self._settings.store_stall_s,
            self._stores,
            self._objects,
            self._avoid_large,
        )
        match prepared.work:
            case Spliced():
                batches = spliced_batches(prepared.work, execution_context)
            case Staged():
                batches = staged_batches(prepared.work, execution_context)
            case None:
                batches = frame_batches(prepared.frame, execution_context)
        return Execution(batches, execution_context, prepared.schema, prepared.scans, keeper)

    def compare_objects(self, prepared: Prepared) -> float:
        """Compare the objects of a statement's tables with their events, after another engine has read them.

        It reads the files that partition values keep, and maybe those that only statistics of the catalog leave out.

        Returns:
            Seconds of the requests, added over those at once.

        Raises:
            StaleObjectError: An object is gone, or is not the event's.
            StoreUnavailableError: The store did not answer, or refused.
        """
        spent = RequestTime()
        self._loop.submit(self._objects.check([*map(_as_files, prepared.scans)], lambda: None, spent)).result()
        return spent.seconds

    def explain(self, prepared: Prepared) -> Explanation:
        """Explain a planned statement.

        Raises:
            StatementError: The statement has no physical plan.
        """
        with _clear_errors(prepared.bound):
            logical, physical = self._planners.run(
                lambda: (prepared.logical.display_indent(), prepared.shown(prepared.physical.display_indent()))
            )
        reads = {id(read.scan): read for read in (() if prepared.work is None else prepared.work.reads)}
        scans = [reads.get(id(scan), ScanReads(scan, [], [])) for scan in prepared.scans]
        explained = [read.explanation(self._objects.found) for read in scans]
        return Explanation(explained, logical, physical, prepared.path)

    def close(self) -> None:
        """End the threads and remove the templates."""
        if self._results is not None:
            self._results.close()
        self._planners.close()
        self._loop.close()
        self._sessions.close()

    def _avoid_large(self, scans: Sequence[Scan]) -> None:
        """Plan the next statements over these tables without large objects."""
        until = time.monotonic() + AVOID_S
        with self._lock:
            self._avoided |= {scan.table.name: until for scan in scans if scan.large is not None}
            self._plans.clear()

    def _avoided_now(self) -> frozenset[TableName]:
        now = time.monotonic()
        return frozenset(name for name, until in [*self._avoided.items()] if until > now)

    def _plan(self, statement: tuple[str, bytes], values: Values, bound: BoundSession) -> Prepared:
        sql, key = statement
        views = named_views(sql, bound.session.views)
        text = expanded(sql, views)
        bound.session.view_plans.plan(views)
        frame, is_explain = parsed(bound.context, sql, values, text)
        optimized = frame.optimized_logical_plan()
        # A copy's path, or a large object's, would be shown as the file's name.
        names_files = INPUT_FILE_NAME in text.lower()
        policy = None if names_files or self._policy is None else self._policy.of_statement()
        avoid = frozenset(bound.tables) if names_files else self._avoided_now()
        tables, counting = [*bound.tables.values()], bound.session.counting
        planning = Planning(bound.context, tables, self._breadth, policy, avoid, counting)
        try:
            work = _work(optimized, planning)
        except NotSpliceable as error:
            work = _unreduced_work(sql, values, bound, planning, error)
        for environment, store in () if work is None else work.stores:
            self._stores.register(bound.context, environment, store)
        scans = () if work is None else work.scans
        schema = result_schema(optimized, bound.context)
        return Prepared(schema, scans, optimized, is_explain, is_repeatable(text), (text, key), bound, work, frame)


def _work(optimized: LogicalPlan, planning: Planning) -> Spliced | Staged | None:
    """Return how a statement reads its tables; None if it reads none."""
    try:
        return splice(optimized, planning)
    except NotSpliceable:
        # Where DataFusion cannot plan the statement at all, this raises its own error.
        planning.context.create_dataframe_from_logical_plan(optimized).execution_plan()
    try:
        return stage(optimized, planning)
    except NotSpliceable:
        if not names_a_table(optimized, planning.tables):
            return None
        raise


def _unreduced_work(
    sql: str, values: Values, bound: BoundSession, planning: Planning, reduced: NotSpliceable
) -> Spliced | Staged | None:
    """Plan a statement again without the rules that replace parts without rows by an EmptyRelation."""
    views = named_views(sql, bound.session.views)
    bound.session.unreduced_views.plan(views)
    frame, _ = parsed(bound.session.unreduced, sql, values, expanded(sql, views))
    try:
        return _work(frame.optimized_logical_plan(), planning)
    except NotSpliceable:
        raise PlanError(
            f"this statement cannot be run over tables, because its plan does not serialize ({reduced})"
        ) from reduced


def _as_files(scan: Scan) -> Scan:
    is_exact = not scan.answered and all(applied.decided for applied in scan.filters)
    return replace(scan, files=scan.files if is_exact else None, large=None)


@contextmanager
def _clear_errors(bound: BoundSession, sql: str = "", current: Snapshot | None = None) -> Iterator[None]:
    """Raise DataFusion's errors of planning as `QueryError`."""
    snapshot = bound.snapshot if current is None else current  # a past generation has only what a statement names
    try:
        yield
    except BaseException as error:
        if not is_datafusion_error(error):
            raise
        wrong = planning_error(error, snapshot.tables, sql)
        if isinstance(wrong, UnknownTableError):
            _raise_problem(str(error), bound.snapshot, bound.session)
            _raise_problem(str(error), snapshot, bound.session)
        if isinstance(wrong, PlanError) and (left_out := left_out_column(error, bound.snapshot.tables, sql)):
            raise left_out from error
        raise wrong from error


def _raise_problem(text: str, snapshot: Snapshot, session: Session) -> None:
    """Raise what is wrong with a table or view that is named, known and not queryable."""
    missing = missing_table(text)
    if missing is None:
        return
    for name, table in snapshot.tables.items():
        problem = table.problem or session.view_plans.problem(name)
        if problem is not None and str(name).removeprefix("public.") == missing:
            raise problem
    for name, problem in snapshot.problems.items():
        if str(name) == missing:
            raise problem
    schema = missing.rpartition(".")[0]
    for environment, problem in snapshot.unavailable.items():
        if schema.startswith(f"{environment}_"):
            raise EnvironmentUnavailableError(str(problem)) from problem
