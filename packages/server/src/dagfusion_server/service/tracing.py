"""OpenTelemetry traces of queries (extra `otel`), from their arrival at a door to their requests to object stores.

The spans of a query are made when it is over, from its stats and times: a worker that is killed loses none of them,
and a running query has no overhead. Their parent is the span that the client named in a W3C `traceparent` header.

    query                        at a door; the client's span is its parent
    ├── queue                    the wait for a worker
    ├── plan                     planning in the worker
    └── execute                  in the worker; has the number, bytes and seconds of requests to object stores
        └── fetch                for each table: from the first request for a local copy to the end of the last one

Objects that are read in place are requested by DataFusion during the execution: they are in the numbers of `execute`.
A query waits only for the start of its first span, which has the trace's id. A thread makes the other spans.
"""

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import quote

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dagfusion_client.documents.query_documents import QueryInfo, State, Stats
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_server.worker.messages import AT_ONCE_S

_log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 2.0
_WAITING = 10_000  # queries that wait for their spans; if there are more, they have none
_CONTEXT_LOG = "opentelemetry.trace.span"  # warns of a `tracestate` that is not valid, with all of its text
_W3C = TraceContextTextMapPropagator()
_NAME = "dagfusion-query"
Attributes = Mapping[str, str | int | float | list[str]]


class _Begun(NamedTuple):
    """A query that is over, and its first span."""

    root: Span
    info: QueryInfo
    mode: str
    planned_s: float | None
    fetches: Sequence[TableFetch]


class Traces:
    """Sends traces. The standard `OTEL_*` variables configure the exporter, its batches, the sampler and the resource.

    Args:
        exporter: Where spans are sent to; by default the OTLP endpoint that the variables name.
        dagster_urls: The address of Dagster's web interface by environment, for links to runs.
    """

    def __init__(self, exporter: SpanExporter | None = None, dagster_urls: Mapping[str, str] | None = None) -> None:
        self._dagster_urls = dagster_urls or {}
        own = Resource({"service.name": _NAME, "service.version": version(_NAME)})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(_NAME, version(_NAME))
        self._begun: queue.Queue[_Begun | None] = queue.Queue(_WAITING)
        logging.getLogger(_CONTEXT_LOG).setLevel(logging.ERROR)  # clients send it, and can send much of it
        self._thread = threading.Thread(target=self._follow, name="dagfusion-traces", daemon=True)
        self._thread.start()

    def over(
        self,
        info: QueryInfo,
        context: Mapping[str, str],
        mode: str,
        planned_s: float | None,
        fetches: Sequence[TableFetch] = (),
    ) -> str | None:
        """Return the id of the trace of a query that is over, and have its spans made; None if it is not sampled.

        Args:
            info: The query.
            context: The headers `traceparent` and `tracestate` of its request, if it had them.
            mode: What was wanted of the statement, such as `run`.
            planned_s: Seconds from its arrival to the message of its plan; None for a query that was not planned.
            fetches: The requests that made local copies.
        """
        begin = _nanoseconds(info.submitted_at.timestamp())
        root = self._tracer.start_span("query", _W3C.extract(context), SpanKind.SERVER, start_time=begin)
        if not root.is_recording():
            return None
        try:
            self._begun.put_nowait(_Begun(root, info, mode, planned_s, fetches))
        except queue.Full:
            _log.warning("the query %s has no spans: too many wait for theirs", info.id)
        return format_trace_id(root.get_span_context().trace_id)

    def close(self) -> None:
        """Send what waits, but take no longer than some seconds."""
        closing = threading.Thread(target=self._close, name="dagfusion-traces-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)
        if closing.is_alive():
            _log.warning("the last traces were not sent: their endpoint does not answer")

    def _close(self) -> None:
        self._begun.put(None)
        self._thread.join()
        self._provider.shutdown()

    def _follow(self) -> None:
        """Make the spans of query after query, until there is None."""
        while (begun := self._begun.get()) is not None:
            try:
                self._finish(begun)
            except Exception:  # noqa: BLE001  # of a library; it costs the trace only
                _log.exception("the query %s has no trace", begun.info.id)
            finally:
                self._begun.task_done()

    def _finish(self, begun: _Begun) -> None:
        """Make the spans inside of the first one, and end it."""
        root, info, mode, planned_s, fetches = begun
        stats, begin = info.stats, info.submitted_at.timestamp()
        end = begin + stats.total_s
        root.set_attributes(_attributes(info, mode))
        if urls := self._run_urls(stats):
            root.set_attribute("dagster.run_urls", urls)
        inside = set_span_in_context(root, Context())
        if planned_s is None:
            self._part("queue", inside, begin, begin + (stats.queued_s or stats.total_s))
        else:
            # The worker sends the plan with the first rows, if they come soon.
            planned = begin + max(stats.queued_s, planned_s - min(stats.first_batch_s, AT_ONCE_S))
            self._part("queue", inside, begin, begin + stats.queued_s)
            self._part("plan", inside, max(begin, planned - stats.planning_s), planned)
            execute = self._part("execute", inside, planned, end, _requests(stats))
            for fetch in fetches:
                first, last = (min(planned + seconds, end) for seconds in (fetch.began_s, fetch.ended_s))
                self._part("fetch", set_span_in_context(execute, Context()), first, last, _fetched(fetch))
        if info.state is State.failed:
            root.set_status(Status(StatusCode.ERROR, None if info.error is None else info.error.code))
        root.end(_nanoseconds(end))

    def _run_urls(self, stats: Stats) -> list[str]:
        """Return the pages of the runs in Dagster; none if they may be of several environments."""
        urls = [self._dagster_urls.get(name) for name in stats.generations]
        return [f"{urls[0]}/runs/{quote(run)}" for run in stats.runs] if len(urls) == 1 and urls[0] else []

    def _part(self, name: str, inside: Context, begin: float, end: float, attributes: Attributes | None = None) -> Span:
        """Make a span inside of another one; the times are seconds since 1970."""
        part = self._tracer.start_span(name, inside, attributes=attributes, start_time=_nanoseconds(begin))
        part.end(_nanoseconds(end))
        return part


def _requests(stats: Stats) -> Attributes:
    counted = {} if stats.requests is None else {"dagfusion.store.requests": stats.requests}
    return {**counted, "dagfusion.store.bytes": stats.bytes_read, "dagfusion.store.seconds": stats.requests_s}


def _fetched(fetch: TableFetch) -> Attributes:
    return {
        "dagfusion.table": fetch.table,
        "dagfusion.store.requests": fetch.requests,
        "dagfusion.store.bytes": fetch.bytes,
    }


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)


def _attributes(info: QueryInfo, mode: str) -> Attributes:
    """Return what a trace has of a query: not its statement, whose values may be secret."""
    stats = info.stats
    found: dict[str, str | int | float | list[str]] = {
        "dagfusion.query.id": info.id,
        "dagfusion.query.mode": mode,
        "dagfusion.query.state": info.state.value,
        "dagfusion.door": info.door,
        "dagfusion.path": stats.path,
        "dagfusion.files.read": stats.files_read,
        "dagfusion.files.total": stats.files_total,
        "dagfusion.rows": stats.rows,
        "dagfusion.result.bytes": stats.result_bytes,
        "enduser.id": info.user,
        **{f"dagfusion.generation.{name}": number for name, number in stats.generations.items()},
    }
    if stats.runs:
        found["dagster.run_ids"] = [*stats.runs]
    if info.error is not None:
        found["error.type"] = info.error.code
    return found
