"""`dagfusion serve` sends traces to an OTLP endpoint, from both doors, and loads OpenTelemetry only then."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http_servers import answering
from tests.server.processes.process import served
from tests.waiting import eventually

QUERY = "SELECT max(id) FROM local_silver_tax_id.orgs WHERE id >= 0 AND state = 'CA'"
TRACES = {"http": "0af7651916cd43dd8448eb211c80319c", "flight": "1af7651916cd43dd8448eb211c80319d"}


@dataclass
class Collector:
    """An OTLP endpoint.

    Attributes:
        spans: What it has got: the name of the service, and the span.
    """

    url: str = ""
    spans: list[tuple[str, Any]] = field(default_factory=list)

    def of(self, trace: str) -> dict[str, Any]:
        """Return the spans of a trace, by name."""
        return {span.name: span for _, span in self.spans if span.trace_id.hex() == trace}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in request.resource_spans:
                name = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                collector.spans += [(name, span) for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

    with answering(Endpoint) as collector.url:
        yield collector


def parent_of(trace: str) -> str:
    return f"00-{trace}-b7ad6b7169203331-01"


def test_a_trace_goes_from_the_door_to_the_store(dagster_home: Path, tmp_path: Path, collector: Collector) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with served(tmp_path, "--dagster-home", str(dagster_home), variables=variables) as server:
        with server.client() as client:
            answer = client.post("/v1/sql", json={"sql": QUERY}, headers={"traceparent": parent_of(TRACES["http"])})
            query = client.get(f"/v1/queries/{answer.headers['dagfusion-query-id']}").json()
        options = {"adbc.flight.sql.rpc.call_header.traceparent": parent_of(TRACES["flight"])}
        opened = adbc_driver_flightsql.dbapi.connect(server.flight_url, db_kwargs=options, autocommit=True)
        with closing(opened) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(QUERY)
            assert cursor.fetchall() == [(999,)]
        assert eventually(lambda: all("query" in collector.of(trace) for trace in TRACES.values()))

    assert query["trace_id"] == TRACES["http"]
    for door, trace in TRACES.items():
        found = collector.of(trace)
        assert {"query", "queue", "plan", "execute"} <= set(found)
        assert found["query"].parent_span_id.hex() == "b7ad6b7169203331"
        attributes = {one.key: one.value for one in found["query"].attributes}
        assert attributes["dagfusion.door"].string_value == door
        assert attributes["dagfusion.rows"].int_value == 1
    assert {name for name, _ in collector.spans} == {"dagfusion-query"}


def test_an_endpoint_that_is_down_costs_traces_only(dagster_home: Path, tmp_path: Path) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with (
        served(tmp_path, "--dagster-home", str(dagster_home), variables=variables) as server,
        server.client() as client,
    ):
        for _ in range(3):
            assert client.post("/v1/sql", json={"sql": QUERY}).status_code == 200
        server.stop()
    assert server.process.returncode == 0
