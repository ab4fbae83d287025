"""Queries over HTTP: one's own, with their costs and errors."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx
import orjson
import pytest
from starlette.responses import Response
from typer.testing import CliRunner

from dagfusion_cli.main import app
from dagfusion_client.documents.query_documents import QueryCost
from dagfusion_client.errors import SqlSyntaxError
from dagfusion_query.access.authentication import Tokens
from dagfusion_server.doors.http import statement_routes
from dagfusion_server.doors.http.http_door import HttpDoor
from dagfusion_server.doors.http.requests_and_responses import document
from tests.server.fake_service import FakeService


@pytest.fixture(autouse=True)
def known(service: FakeService) -> None:
    service.remember("q1", "ann")
    service.remember("q2", "bob", SqlSyntaxError("syntax error", 1, 2))


@pytest.fixture
def ann(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.create('ann', ['uat'])}"}


def test_a_query_in_full(client: httpx.Client) -> None:
    query = client.get("/v1/queries/q2").json()

    assert query["submitted_at"] == "2026-01-02T00:00:00Z"
    assert (query["user"], query["state"], query["stats"]["rows"]) == ("bob", "failed", 5)
    assert query["stats"]["scans"] == []
    assert query["error"] == {"code": "sql_syntax", "message": "syntax error", "line": 1, "column": 2}


def test_ones_own_queries_only(client: httpx.Client, ann: dict[str, str], tokens: Tokens) -> None:
    root = {"Authorization": f"Bearer {tokens.create('root', ['*'])}"}
    assert [query["id"] for query in client.get("/v1/queries", headers=ann).json()["queries"]] == ["q1"]
    assert len(client.get("/v1/queries", headers=root).json()["queries"]) == 2
    for method in ("GET", "DELETE"):
        answer = client.request(method, "/v1/queries/q2", headers=ann)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_query")


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("?limit=1", ["q2"]),
        ("?limit=0", []),
        ("?before=2026-01-02T00:00:02Z", ["q1"]),
        ("?before=2026-01-02T00:00:01", []),
        ("?before=2026-01-02T02:00:03%2B02:00&limit=1", ["q2"]),
    ],
)
def test_a_page_of_queries(client: httpx.Client, service: FakeService, question: str, found: list[str]) -> None:
    for number, info in enumerate(service.known.values(), 1):
        service.known[info.id] = replace(info, ended_at=info.submitted_at + timedelta(seconds=number))
    assert [query["id"] for query in client.get(f"/v1/queries{question}").json()["queries"]] == found


@pytest.mark.parametrize("question", ["limit=10001", "limit=-1", "limit=x", "before=yesterday", "before="])
def test_a_page_that_is_none(client: httpx.Client, question: str) -> None:
    answer = client.get(f"/v1/queries?{question}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_the_command_lists_them_with_their_costs(door: HttpDoor, service: FakeService, tokens: Tokens) -> None:
    price = QueryCost(0.0004, 0.00123456, "2025-06-01")
    service.known["q1"] = replace(service.known["q1"], cost=price, ended_at=service.known["q1"].submitted_at)
    secret = tokens.create("root", ["*"])
    found = CliRunner().invoke(app, ["queries", "--url", door.url, "--token", secret, "-F", "jsonl"])
    assert found.exit_code == 0, found.output
    bobs, anns = map(orjson.loads, found.stdout.splitlines())
    assert (bobs["id"], bobs["error"], bobs["worker_usd"]) == ("q2", "sql_syntax", None)
    assert (anns["user"], anns["requests_usd"], anns["worker_usd"]) == ("ann", 0.0004, 0.0012)
    page = ["queries", "--url", door.url, "--token", secret, "--before", "2026-01-03T00:00:00+01:00", "--limit", "1"]
    assert "SELECT" in CliRunner().invoke(app, page).stdout


def test_the_command_reads_page_after_page(door: HttpDoor, service: FakeService, tokens: Tokens) -> None:
    for number in range(7):
        service.remember(f"p{number}", "ann")
    for number, info in enumerate(service.known.values()):
        service.known[info.id] = replace(info, ended_at=info.submitted_at + timedelta(seconds=number))
    service.page = 2
    everything = ["queries", "--url", door.url, "--token", tokens.create("root", ["*"]), "-F", "jsonl"]
    for limit, found in ((20, 9), (5, 5)):
        lines = CliRunner().invoke(app, [*everything, "--limit", str(limit)]).stdout.splitlines()
        assert [orjson.loads(line)["id"] for line in lines] == [*reversed(service.known)][:found]


def test_a_page_is_encoded_in_a_thread(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(value: object) -> Response:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return document(value)

    monkeypatch.setattr(statement_routes, "document", encode)
    assert len(client.get("/v1/queries").json()["queries"]) == 2


def test_the_command_needs_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGFUSION_URL", raising=False)
    for url in ([], ["--url", "grpc://localhost:1"]):
        ended = CliRunner().invoke(app, ["queries", *url])
        assert "--url" in str(ended.exception)


def test_cancelling(client: httpx.Client, ann: dict[str, str]) -> None:
    assert client.delete("/v1/queries/q1", headers=ann).json()["state"] == "cancelled"
    assert client.get("/v1/queries/q1", headers=ann).json()["error"] is None


def test_a_session_says_who_asks(client: httpx.Client, tokens: Tokens) -> None:
    assert client.get("/v1/session").json().items() >= {"user": "anonymous", "anonymous": True}.items()
    ann = {"Authorization": f"Bearer {tokens.create('ann', ['uat'])}"}
    assert client.get("/v1/session", headers=ann).json()["user"] == "ann"
