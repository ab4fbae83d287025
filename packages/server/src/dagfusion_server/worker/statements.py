"""Worker process: runs the statements that arrive on the socket, one at a time, and sends their messages.

`Statements` takes them one after another, `StatementExecution` is one of them, and `result_chunks` encodes its result
and holds it to its limits. `worker_engine` plans, runs and explains; `redact` decides what callers are shown.
"""

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import QueryCancelledError, QueryError
from dagfusion_client.returned_values import Explanation
from dagfusion_query.engine.copy_requests import Missing, RequestTime
from dagfusion_query.engine.engine import Prepared
from dagfusion_query.engine.plan_execution import Batches, Finished
from dagfusion_query.engine.runtime import Job
from dagfusion_query.redact import Redactor, StatementRedactor
from dagfusion_server.worker.limits import EXIT_CODE, SentRequests, comes_to_rest
from dagfusion_server.worker.messages import (
    AT_ONCE_S,
    Cancel,
    Configuration,
    End,
    Fetched,
    Kind,
    Message,
    Mode,
    Phase,
    SocketClosedError,
    Statement,
    decode_parameters,
    encode,
)
from dagfusion_server.worker.result_chunks import ResultChunks, Send
from dagfusion_server.worker.worker_engine import WorkerEngine, with_tables

_SOON_S = 0.002  # a batch that comes within it shares a chunk with the one before
_FETCHED_AT_ONCE = 8  # objects that no query waits for
_REST_S = 1.0  # that threads have to leave an execution that was given up


class BusyThreadsError(Exception):
    """A statement has ended, but threads of this process still run: it cannot take another statement."""


class StatementExecution:
    """One statement, from its message to its last message.

    `cancel` is called on another thread than the rest.

    Args:
        statement: The statement.
        engine: Plans and runs it.
        redactor: Redacts what its caller is shown.
        requests: Counts the requests that it sends to object stores.
        mark: Marks the phase of this process.
    """

    def __init__(
        self,
        statement: Statement,
        engine: WorkerEngine,
        redactor: Redactor,
        requests: SentRequests,
        mark: Callable[[Phase], None],
    ) -> None:
        self.id = statement.id
        self._statement, self._engine, self._requests, self._mark = statement, engine, requests, mark
        self._redactor = redactor
        self._shown = StatementRedactor(redactor)
        self._lock = threading.Lock()  # of the next two
        self._cancelled = threading.Event()
        self._batches: Batches | None = None
        self._fetching: Job[list[QueryError]] | None = None
        self._is_whole = True  # until the statement ends before its own end
        self._is_counted = False  # whether all of its requests were counted

    def cancel(self) -> None:
        """Cancel the statement."""
        with self._lock:
            self._cancelled.set()
            if self._batches is not None:
                self._batches.cancel()
            if self._fetching is not None:
                self._fetching.cancel()

    def execute(self, body: memoryview | bytes, send: Send) -> None:
        """Plan and run the statement, and send its messages, the last of which is `end` or `failed`.

        Args:
            body: The parameters, as their message has them.
            send: Sends encoded messages.

        Raises:
            SocketClosedError: The service is gone.
        """
        self._mark(Phase.planning)
        with self._failure_sent(send):
            if self._statement.mode is Mode.fetch:
                self._fetch(send)
                return
            values = decode_parameters(body)
            plan = self._engine.plan(self._statement, values)
            self._shown = StatementRedactor(self._redactor, plan.folders)
            prepared = plan.prepared
            plans = self._explained(prepared).to_arrow() if prepared.is_explain else None
            schema = prepared.schema if plans is None else plans.schema
            described = [memoryview(schema.serialize())]
            planned = encode(Kind.planned, plan.facts, described)
            self._mark(Phase.running)
            match self._statement.mode:
                case Mode.describe:
                    send(planned, encode(Kind.end, End()))
                case Mode.explain:
                    document = self._shown.document(self._explained(prepared), plan.facts.generations)
                    send(planned, encode(Kind.end, End(explanation=document)))
                case Mode.run:
                    began = time.perf_counter()
                    result_cache = self._statement.result_cache
                    batches: Batches
                    if plans is not None:
                        batches = Finished(plans)
                    elif self._statement.spark is not None:
                        batches = self._engine.spark.run(self._statement, prepared, values)
                    else:
                        batches = self._engine.run(prepared, result_cache=result_cache, cancelled=self._cancelled)
                    if batches.path is not None:
                        planned = encode(Kind.planned, replace(plan.facts, path=batches.path), described)
                    self._stream(batches, prepared, ResultChunks(self._statement, schema, planned, send), began)

    def _fetch(self, send: Send) -> None:
        self._mark(Phase.running)
        for missing in self._engine.new_objects(self._statement):
            self._check()
            for start in range(0, len(missing), _FETCHED_AT_ONCE):
                self._fetch_some(missing[start : start + _FETCHED_AT_ONCE], send)
        send(encode(Kind.end, End()))

    def _fetch_some(self, missing: Sequence[Missing], send: Send) -> None:
        """Make copies, between two messages: with what is fetched at the most, and with what was fetched."""
        spent, skipped = RequestTime(), list[QueryError]()
        send(encode(Kind.data, Fetched(coming_bytes=sum(one.part.size_bytes for one in missing))))
        try:
            with self._lock:
                self._check()
                self._fetching = self._engine.fetch(missing, spent)
            skipped = self._fetching.result()
        finally:  # requests that were sent are counted, whatever came of them
            fetched = Fetched([*spent.fetches.values()], [self._shown.error(error) for error in skipped])
            send(encode(Kind.data, fetched))

    @property
    def is_counted(self) -> bool:
        """True if no request of it can be missing in its count."""
        return self._is_whole and self._is_counted

    def abandon(self) -> bool:
        """Release the batches; if the statement ended early, cancel them and return True."""
        with self._lock:
            batches, self._batches = self._batches, None
        if self._is_whole or batches is None:
            return False
        batches.cancel()
        return True

    @contextmanager
    def _failure_sent(self, send: Send) -> Iterator[None]:
        """Send whatever is raised; the service has to hear of it."""
        try:
            yield
        except SocketClosedError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is
            failure = _cancelled() if self._cancelled.is_set() else self._engine.failure(error)
            text = self._shown.error(failure)
            self._mark(Phase.resting)
            send(encode(Kind.failed, Failure.of(failure, text)))
            self._is_whole = False

    def _stream(self, batches: Batches, prepared: Prepared, output: ResultChunks, began: float) -> None:
        with self._lock:
            self._batches = batches
            if self._cancelled.is_set():
                batches.cancel()
        first_batch_s = None
        if not batches.wait(AT_ONCE_S):
            output.flush()
        while (batch := batches.next()) is not None:
            if prepared.is_analysis:
                batch = self._redacted(batch, prepared)
            first_batch_s = time.perf_counter() - began if first_batch_s is None else first_batch_s
            batches.wait(0.0)  # have the next one made while this one is encoded
            if not output.write(batch):
                batches.check()
                self._is_whole = False
                break
            if not batches.wait(_SOON_S):
                output.flush()
            self._check()
        self._check()
        if not self._is_whole:
            self._mark(Phase.resting)
        took_s = time.perf_counter() - began if first_batch_s is None else first_batch_s
        requests = self._requests.count() if self._statement.spark is None else None  # Spark's are not known
        cost = output.finish(first_batch_s=took_s, batches=batches, requests=requests)
        self._is_counted = cost.requests_s == 0.0  # else some may still be sent, of rows that a LIMIT left out

    def _redacted(self, batch: pa.RecordBatch, prepared: Prepared) -> pa.RecordBatch:
        """Return a batch of an EXPLAIN ANALYZE, whose texts are plans as DataFusion writes them, for the caller."""
        columns = [
            pa.array([self._shown.plan(with_tables(prepared.shown(text))) for text in column.to_pylist()], column.type)
            for column in batch
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise _cancelled()

    def _explained(self, prepared: Prepared) -> Explanation:
        return self._shown.explanation(self._engine.explain(prepared))


class Statements:
    """Runs the statements of a worker process, one at a time.

    Two threads call `serve`: while one of them runs a statement, the other one hears of cancellations.

    Args:
        configuration: Settings of the environments, and limits.
        mark: Marks the phase of this process.
    """

    def __init__(self, configuration: Configuration, mark: Callable[[Phase], None]) -> None:
        self._mark = mark
        self._listening = threading.Lock()
        self._turn = threading.Lock()  # of the next one
        self._is_busy = False  # True once threads have outlived a statement: this process is about to end
        self._lock = threading.Lock()  # of the next one
        self._current: StatementExecution | None = None
        environments = configuration.settings.values()
        folders = (*configuration.folders, tempfile.gettempdir())  # the latter is this process's own
        self._redactor = Redactor(environments, map(Path, folders))
        self._requests = SentRequests(settings.endpoint_url for settings in environments)
        self._engine = WorkerEngine(configuration)

    def warm_up(self, configuration: Configuration) -> None:
        """Load what the first statement would wait for: the engine, and the current catalogs."""
        self._engine.warm_up(configuration.environments)

    def serve(self, messages: Iterator[Message], send: Send) -> None:
        """Run statements until the service is gone, then end this process.

        Args:
            messages: What the service sends. Two threads share it.
            send: Sends encoded messages.
        """
        try:
            while (message := self._next(messages)) is not None:
                self.run(message, send)
        except (OSError, SocketClosedError):
            os._exit(0)
        except BusyThreadsError:
            os._exit(EXIT_CODE)
        except BaseException:  # noqa: BLE001  # the service waits for a message that will not come
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _next(self, messages: Iterator[Message]) -> Message | None:
        """Return the next statement; None when the service is gone."""
        with self._listening:
            for message in messages:
                if message.kind is Kind.statement:
                    return message
                if message.kind is Kind.cancel:
                    self._cancel(message.read(Cancel).id)
            return None

    def _cancel(self, statement: str) -> None:
        """Cancel the statement with this id, if it is the one that runs. Called on another thread."""
        with self._lock:
            if self._current is not None and self._current.id == statement:
                self._current.cancel()

    def run(self, message: Message, send: Send) -> None:
        """Run one statement, and send its messages. The next one waits until nothing is left of this one.

        Raises:
            SocketClosedError: The service is gone.
            BusyThreadsError: This statement, or the one before it, ended early, and a thread goes on without it.
        """
        with self._turn:
            if self._is_busy:  # this statement does not begin here, so the service gives it to another worker
                raise BusyThreadsError
            execution = StatementExecution(
                message.read(Statement), self._engine, self._redactor, self._requests, self._mark
            )
            with self._lock:
                self._current = execution
            execution.execute(message.body, send)
            with self._lock:
                self._current = None
            # Some of DataFusion's joins continue after their result was dropped.
            if execution.abandon() and not comes_to_rest(_REST_S):
                self._is_busy = True
                raise BusyThreadsError
            if execution.is_counted:
                self._requests.restart_after_count()
            else:
                self._requests.restart()
            self._mark(Phase.idle)


def _cancelled() -> QueryCancelledError:
    return QueryCancelledError("the query was cancelled")
