"""Traces of queries: their spans, the client's context, and the Dagster runs that wrote what was read."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from dagfusion_client.documents.query_documents import Stats
from dagfusion_client.errors import MissingExtraError, SettingsError
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_server.service import tracing
from dagfusion_server.service.tracing import Traces
from dagfusion_server.service.tracing_variables import configured_traces
from tests.query.test_package_extras import without
from tests.server.service.conftest import Served
from tests.waiting import PATIENCE_S

TABLE = "local_silver_tax_id.orgs"
PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}


@pytest.fixture
def sent(served: Served) -> Iterator[InMemorySpanExporter]:
    """What the service sends."""
    exporter, service = InMemorySpanExporter(), served.service
    before, traces = service._shared, Traces(exporter)
    service._shared = replace(before, traces=traces)
    yield exporter
    service._shared = before
    traces.close()


def spans(served: Served, sent: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans of the one query that was traced, by name."""
    traces = served.service._shared.traces
    assert traces is not None
    traces._begun.join()
    traces._provider.force_flush()
    found: Sequence[ReadableSpan] = sent.get_finished_spans()
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


def test_a_query_in_spans(served: Served, sent: InMemorySpanExporter) -> None:
    served.rows(f"SELECT max(name) AS n FROM {TABLE} WHERE state = 'CA' AND name <> 'secret'", trace=PARENT)
    found, info = spans(served, sent), served.latest()

    assert set(found) == {"query", "queue", "plan", "execute"}
    root = found["query"]
    assert root.context.trace_id == int("0af7651916cd43dd8448eb211c80319c", 16)
    assert root.context.trace_state.get("vendor") == "1"
    assert root.parent is not None
    assert root.parent.span_id == int("b7ad6b7169203331", 16)
    assert (root.kind, root.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert info.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert root.attributes is not None
    assert root.attributes["dagfusion.query.id"] == info.id
    assert root.attributes["dagster.run_ids"] == ("run",)
    assert root.attributes["dagfusion.files.read"] == 3
    assert root.attributes["enduser.id"] == "ann"
    assert root.attributes["dagfusion.generation.local"] == served.generation("local")
    assert "secret" not in str([span.to_json() for span in found.values()])

    times = [(found[name].start_time or 0, found[name].end_time or 0) for name in ("queue", "plan", "execute")]
    begin, end = root.start_time or 0, root.end_time or 0
    for start, stop in times:
        assert begin <= start <= stop <= end
    assert times[1][1] == times[2][0]
    assert times[2][1] == end
    assert all(found[name].parent == root.context for name in ("queue", "plan", "execute"))
    assert found["execute"].attributes == {
        "dagfusion.store.requests": info.stats.requests,
        "dagfusion.store.bytes": info.stats.bytes_read,
        "dagfusion.store.seconds": info.stats.requests_s,
    }
    assert info.stats.requests_s > 0


@pytest.mark.parametrize(
    ("generations", "urls"),
    [({"local": 1}, ("https://dagster.example/runs/run",)), ({"uat": 1}, None), ({"local": 1, "uat": 1}, None)],
)
def test_a_trace_links_the_runs_in_dagster(
    served: Served, generations: dict[str, int], urls: tuple[str, ...] | None
) -> None:
    served.rows(f"SELECT max(name) AS n FROM {TABLE}")
    info, exporter = served.latest(), InMemorySpanExporter()
    traces = Traces(exporter, {"local": "https://dagster.example"})
    traces.over(replace(info, stats=replace(info.stats, runs=["run"], generations=generations)), {}, "run", None)
    traces._begun.join()
    traces.close()
    [root] = [span for span in exporter.get_finished_spans() if span.name == "query"]
    assert (root.attributes or {}).get("dagster.run_urls") == urls


def test_the_requests_for_local_copies_are_spans_of_the_execution(served: Served, sent: InMemorySpanExporter) -> None:
    """The plan came 15 ms late, with the first rows. The clocks differ, so a time may be after the end."""
    served.rows("SELECT 1 AS n", trace={"traceparent": f"{PARENT['traceparent'][:-1]}0"})  # not sampled
    traces, info = served.service._shared.traces, served.latest()
    assert traces is not None
    stats = Stats(queued_s=0.005, planning_s=0.01, first_batch_s=0.015, total_s=0.1)
    fetches = [TableFetch("local.a", 3, 300, 0.002, 0.012), TableFetch("local.b", 1, 10, 0.08, 0.2)]
    traces.over(replace(info, stats=stats), {}, "run", 0.03, fetches)
    traces._begun.join()
    traces._provider.force_flush()
    begin = info.submitted_at.timestamp()
    found = {(span.name, (span.attributes or {}).get("dagfusion.table")): span for span in sent.get_finished_spans()}
    times = {key: [round((at or 0) / 1e9 - begin, 4) for at in (s.start_time, s.end_time)] for key, s in found.items()}
    assert times == {
        ("query", None): [0, 0.1],
        ("queue", None): [0, 0.005],
        ("plan", None): [0.005, 0.015],
        ("execute", None): [0.015, 0.1],
        ("fetch", "local.a"): [0.017, 0.027],
        ("fetch", "local.b"): [0.095, 0.1],
    }
    execute, fetch = found["execute", None], found["fetch", "local.a"]
    assert fetch.parent == execute.context
    assert fetch.attributes == {
        "dagfusion.table": "local.a",
        "dagfusion.store.requests": 3,
        "dagfusion.store.bytes": 300,
    }


def test_a_query_without_context_begins_a_trace(served: Served, sent: InMemorySpanExporter) -> None:
    served.rows("SELECT 1 AS n", trace={"traceparent": "nonsense"})
    root = spans(served, sent)["query"]
    assert root.parent is None
    assert served.latest().trace_id == f"{root.context.trace_id:032x}"


def test_a_trace_that_is_not_sampled_is_not_sent(served: Served, sent: InMemorySpanExporter) -> None:
    served.rows("SELECT 1 AS n", trace={"traceparent": f"{PARENT['traceparent'][:-1]}0"})
    assert spans(served, sent) == {}
    assert served.latest().trace_id is None


def test_a_query_does_not_wait_for_its_spans(
    served: Served, sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, finish = threading.Event(), Traces._finish
    monkeypatch.setattr(Traces, "_finish", lambda *given: (made.wait(PATIENCE_S), finish(*given)))
    served.rows("SELECT 1 AS n", trace=PARENT)
    assert served.latest().trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert sent.get_finished_spans() == ()
    made.set()
    assert set(spans(served, sent)) == {"query", "queue", "plan", "execute"}


def test_a_fault_of_one_trace_is_not_that_of_the_next(
    served: Served, sent: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    traces = served.service._shared.traces
    assert traces is not None
    served.rows("SELECT 1 AS n")
    traces.over(replace(served.latest(), stats=Stats(total_s=float("nan"))), {}, "run", None)
    assert set(spans(served, sent)) == {"query", "queue", "plan", "execute"}
    assert f"the query {served.latest().id} has no trace" in caplog.messages


def test_the_log_has_no_text_of_a_client_s_trace_state(
    served: Served, sent: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    served.rows("SELECT 1 AS n", trace={**PARENT, "tracestate": "NO KEY=loud, NO KEY=loud,x"})
    assert spans(served, sent)["query"].context.trace_id == int("0af7651916cd43dd8448eb211c80319c", 16)
    assert [text for text in caplog.messages if "loud" in text or "NO KEY" in text] == []


def test_a_failure_has_its_code(served: Served, sent: InMemorySpanExporter) -> None:
    served.error("SELECT nothing FROM nowhere.t")
    found = spans(served, sent)
    assert set(found) == {"query", "queue"}
    assert found["query"].status.status_code is StatusCode.ERROR
    assert found["query"].attributes is not None
    assert found["query"].attributes["error.type"] == found["query"].status.description == "unknown_table"


def test_an_endpoint_that_hangs_does_not_keep_the_service_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(tracing, "_CLOSE_TIMEOUT_S", 0.05)
    traces = Traces(InMemorySpanExporter())
    monkeypatch.setattr(traces._provider, "shutdown", stuck.wait)
    traces.close()
    stuck.set()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://localhost:4318"},
    ],
)
def test_there_are_no_traces_without_an_endpoint(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "opentelemetry", "dagfusion_server.service.tracing")  # nothing of it is imported
    assert configured_traces(variables) is None


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "opentelemetry", "dagfusion_server.service.tracing")
    with pytest.raises(MissingExtraError, match=r"pip install 'dagfusion-query\[otel\]'"):
        configured_traces(ENDPOINT)


@pytest.mark.parametrize(
    "variables",
    [
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": ""},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "console, otlp"},
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
    ],
)
def test_the_variables_of_traces_count_before_those_of_all_signals(variables: dict[str, str]) -> None:
    traces = configured_traces(variables)
    assert traces is not None
    traces.close()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL must be http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4317"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must begin"),
    ],
)
def test_what_cannot_be_sent_to_is_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        configured_traces({**ENDPOINT, **variables})


def test_a_variable_that_is_not_valid_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "0")
    with pytest.raises(SettingsError, match="OpenTelemetry"):
        configured_traces(ENDPOINT)


def test_the_standard_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lake")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=uat")
    traces = Traces(InMemorySpanExporter())
    known = traces._provider.resource.attributes
    traces.close()
    assert (known["service.name"], known["deployment.environment.name"]) == ("lake", "uat")
    assert known["service.version"]
