"""Queries over HTTP: one's own, with their costs and errors."""

import httpx
import pytest

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.errors import SqlSyntaxError
from tests.query.fake_service import FakeService


@pytest.fixture(autouse=True)
def known(service: FakeService) -> None:
    service.remember("q1", "ann")
    service.remember("q2", "bob", SqlSyntaxError("syntax error", 1, 2))


@pytest.fixture
def ann(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.create('ann', ['uat'])}"}


def test_a_query_in_full(client: httpx.Client) -> None:
    document = client.get("/v1/queries/q2").json()

    assert document["submitted_at"] == "2026-01-02T00:00:00Z"
    assert (document["user"], document["state"], document["stats"]["rows"]) == ("bob", "failed", 5)
    assert document["stats"]["scans"] == []
    assert document["error"] == {"code": "sql_syntax", "message": "syntax error", "line": 1, "column": 2}


def test_ones_own_queries_only(client: httpx.Client, ann: dict[str, str], tokens: Tokens) -> None:
    root = {"Authorization": f"Bearer {tokens.create('root', ['*'])}"}
    assert [query["id"] for query in client.get("/v1/queries", headers=ann).json()["queries"]] == ["q1"]
    assert len(client.get("/v1/queries", headers=root).json()["queries"]) == 2
    for method in ("GET", "DELETE"):
        answer = client.request(method, "/v1/queries/q2", headers=ann)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_query")


def test_cancelling(client: httpx.Client, ann: dict[str, str]) -> None:
    assert client.delete("/v1/queries/q1", headers=ann).json()["state"] == "cancelled"
    assert client.get("/v1/queries/q1", headers=ann).json()["error"] is None


def test_a_session_says_who_asks(client: httpx.Client, tokens: Tokens) -> None:
    assert client.get("/v1/session").json().items() >= {"user": "anonymous", "anonymous": True}.items()
    ann = {"Authorization": f"Bearer {tokens.create('ann', ['uat'])}"}
    assert client.get("/v1/session", headers=ann).json()["user"] == "ann"
