"""The client and models that a generator made of Iceberg's OpenAPI document, in a process of their own."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.server.doors.iceberg.openapi import REPORT, Exchange
from tests.server.doors.iceberg.other_clients import isolated

# Apache Polaris's client of the Iceberg REST catalog. It needs an older pydantic than the tests.
LIBRARIES = ("apache-polaris==1.8.0",)
_NAMESPACE = "/v1/{prefix}/namespaces/{namespace}"
_TABLE, _VIEW = f"{_NAMESPACE}/tables/{{table}}", f"{_NAMESPACE}/views/{{view}}"
# By operation of the document, its name in the client.
READS = {
    "GET /v1/config": "get_config",
    "POST /v1/oauth/tokens": "get_token",
    "GET /v1/{prefix}/namespaces": "list_namespaces",
    f"GET {_NAMESPACE}": "load_namespace_metadata",
    f"HEAD {_NAMESPACE}": "namespace_exists",
    f"GET {_NAMESPACE}/tables": "list_tables",
    f"GET {_TABLE}": "load_table",
    f"HEAD {_TABLE}": "table_exists",
    f"GET {_TABLE}/credentials": "load_credentials",
    f"POST {_TABLE}/metrics": "report_metrics",
    f"POST {_TABLE}/plan": "plan_table_scan",
    f"POST {_TABLE}/tasks": "fetch_scan_tasks",
    f"GET {_NAMESPACE}/views": "list_views",
    f"GET {_VIEW}": "load_view",
    f"HEAD {_VIEW}": "view_exists",
}
_REQUESTS = {
    "report_metrics": "ReportMetricsRequest",
    "plan_table_scan": "PlanTableScanRequest",
    "fetch_scan_tasks": "FetchScanTasksRequest",
}
_PATTERNS = {
    operation: re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.replace("/{prefix}", "")))
    for operation in READS
}
_SUCCESS = range(200, 400)


class RefusedError(Exception):
    """What is not as the document says."""


class GeneratedClient:
    """The client, whose models judge what it gets."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(
        self, operation: str, *, headers: Mapping[str, str] | None = None, url: str | None = None, **arguments: Any
    ) -> Mapping[str, Any]:
        """Call an operation, and return `status`, `headers`, `body`, and `fields`: what the models made of the body.

        Args:
            operation: Its name in the client.
            headers: More headers.
            url: Of another catalog.
            arguments: Those of the client's method, without the prefix.

        Raises:
            RefusedError: The request or the response is not as the document says.
        """
        return self._run(operation=operation, arguments=arguments, headers=headers or {}, url=url)

    def reads(
        self, operation: str, body: Any, status: int = 200, media_type: str = "application/json", **arguments: Any
    ) -> Mapping[str, Any]:
        """Let an operation get a response, and return as `call`.

        Raises:
            RefusedError: The response is not as the document says.
        """
        text = body if isinstance(body, str) else json.dumps(body)
        response = {"status": status, "headers": {"content-type": media_type}, "body": text}
        return self._run(operation=operation, arguments=arguments, response=response)

    def refusal(self, *response: Any, **arguments: Any) -> str:
        """Return why an operation refuses a response, with the arguments of `reads`; empty if it does not."""
        try:
            self.reads(*response, **arguments)
        except RefusedError as error:
            return str(error)
        return ""

    def judge(self, exchange: Exchange) -> str | None:
        """Validate an exchange of others, and return its operation; None if it failed, and the catalog has none.

        Raises:
            RefusedError: The exchange is not as the document says.
        """
        line = f"{exchange.method} {exchange.path}"
        found = {READS[operation]: pattern.fullmatch(line) for operation, pattern in _PATTERNS.items()}
        operation, match = next(((name, match) for name, match in found.items() if match), (None, None))
        if operation is None or match is None:
            if exchange.status in _SUCCESS:
                raise RefusedError(f"{line}: the catalog names no such operation")
            self._run(model="IcebergErrorResponse", value=json.loads(exchange.answer))
            return None
        arguments: dict[str, Any] = match.groupdict()
        if exchange.status in _SUCCESS:  # a request that is refused need not be valid
            if operation in _REQUESTS:
                self._run(model=_REQUESTS[operation], value=json.loads(exchange.body))
            for name, value in parse_qsl(exchange.query, keep_blank_values=True):
                known = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
                arguments[known] = int(value) if known == "page_size" else value
        if operation == "report_metrics":
            arguments["report_metrics_request"] = REPORT
        text = "" if exchange.method == "HEAD" else exchange.answer.decode()
        media_type = exchange.answer_headers.get("content-type", "")
        self.reads(operation, text, exchange.status, media_type, **arguments)
        return operation

    def _run(self, **command: Any) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(command)}\n")
        self._process.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._process.stdout.readline() or '{"refused": "the client ended"}')
        if "refused" in answer:
            raise RefusedError(f"{command.get('operation') or command.get('model')}: {answer['refused']}")
        return answer


@contextmanager
def running_generated_client(url: str, folder: Path) -> Iterator[GeneratedClient]:
    """Run the client of a catalog. The folder gets its log."""
    with isolated(LIBRARIES, "generated_client_process.py", url, log=folder / "generated_client.log") as process:
        yield GeneratedClient(process)
