"""Iceberg's OpenAPI document judges the door: here each operation, elsewhere what the tests of the door send."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.routing import Mount

from dagfusion_client.errors import EnvironmentUnavailableError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.service_settings import EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.doors.iceberg.iceberg_routes import ENDPOINTS, IcebergRoutes
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.conftest import DELEGATED, TABLE, snapshot
from tests.server.doors.iceberg.openapi import MISSING, REPORT, Exchange, Validator, document, validated
from tests.server.fake_service import FakeService, environment

V1 = "/iceberg/v1"
NAMES = {"{prefix}/": "", "{namespace}": "uat_silver", "{table}": "orders", "{view}": "seen"}
TERM = {"term": "id"}
Watched = Callable[[Sequence[Mount]], AbstractContextManager[Sequence[Mount]]]
FILTERS: tuple[Any, ...] = (
    {"type": "is-null", **TERM},
    {"type": "not-null", **TERM},
    {"type": "gt", **TERM, "value": 3},
    {"type": "in", "term": "state", "values": ["CA", "NY"]},
    {"type": "not", "child": {"type": "starts-with", "term": "state", "value": "C"}},
    {"type": "and", "left": {"type": "eq", **TERM, "value": 1}, "right": {"type": "true"}},
)


@pytest.fixture
def validator() -> Validator:
    found = document()
    if found is None:
        pytest.skip(MISSING)
    return Validator(found)


@pytest.fixture
def client(tmp_path: Path, tokens: Tokens, validator: Validator) -> Iterator[httpx.Client]:
    with opened(tmp_path, tokens, partial(validated, validator=validator)) as client:
        yield client


@contextmanager
def opened(tmp_path: Path, tokens: Tokens, watched: Watched) -> Iterator[httpx.Client]:
    """Open a door that has a table, views, tables that cannot be read, and an environment that cannot be read."""
    settings = Settings(access_key_id="AKID", secret_access_key="the secret", region="us-east-2", environment="uat")
    names, folder = ("uat", "prod"), f"file://{tmp_path}/_iceberg"
    own = EnvironmentSettings(iceberg_metadata=folder, iceberg_credentials="keys")
    environments = [EnvironmentConfig(name, settings, own) for name in names]
    down = environment("prod", Snapshot(0, "prod"), EnvironmentUnavailableError("environment prod cannot be read now"))
    service = FakeService({"uat": environment("uat", snapshot()), "prod": down})
    config = Config(ServiceSettings(), tuple(environments), tmp_path)
    with (
        watched(IcebergRoutes(service, config, tokens).mounts()) as pages,
        serving(service, tokens, config.service, pages=pages) as door,
        httpx.Client(base_url=door.url, trust_env=False, timeout=30) as client,
    ):
        yield client


def test_each_operation(client: httpx.Client, validator: Validator, tokens: Tokens) -> None:
    bodies: dict[str, Any] = {"plan": {}, "tasks": {"plan-task": "[1, null, true, false, 0]"}, "metrics": REPORT}
    plan = client.post(f"{TABLE}/plan", json={}).json()
    assert plan["status"] == "completed"
    for path, operations in validator.document["paths"].items():
        filled = path
        for name, value in NAMES.items():
            filled = filled.replace(name, value)
        for method in operations.keys() & {"get", "head", "post", "delete"}:
            body = bodies.get(filled.rpartition("/")[2], {}) if method == "post" else None
            for namespace in ("uat_silver", "uat_none", "prod_silver"):
                client.request(method, f"/iceberg{filled}".replace("uat_silver", namespace), json=body)
    check_tables(client)
    check_tokens(client, tokens)
    validator.decide()
    for endpoint in ENDPOINTS:
        statuses = {status for operation, status in validator.seen if operation == endpoint}
        assert statuses & {200, 204}, endpoint
        assert 401 in statuses, endpoint


def check_tables(client: httpx.Client) -> None:
    loaded = client.get(TABLE, headers=DELEGATED)
    assert loaded.json()["storage-credentials"]
    assert client.get(TABLE, headers={**DELEGATED, "If-None-Match": loaded.headers["etag"]}).status_code == 304
    identifier = loaded.json()["metadata"]["current-snapshot-id"]
    for one in FILTERS:
        planned = client.post(f"{TABLE}/plan", json={"snapshot-id": identifier, "filter": one}, headers=DELEGATED)
        assert planned.status_code == 200, planned.text
    token = f"[{identifier}, null, true, false, 0]"
    assert client.post(f"{TABLE}/tasks", json={"plan-task": token}).status_code == 200
    for wrong in ("x", "[7, null, true, false, 1]", "x" * (1 << 20)):
        assert client.post(f"{TABLE}/tasks", json={"plan-task": wrong}).status_code in (400, 404)
    for body in (b"{", b"[]", b'{"snapshot-id": 7}'):
        assert client.post(f"{TABLE}/plan", content=body).status_code == 400
    assert client.get(f"{TABLE}?snapshots=none").status_code == 400
    assert client.post(f"{TABLE}/plan", content=b"", headers={"Content-Encoding": "gzip"}).status_code == 400
    for name in ("half", "twice"):
        assert client.get(TABLE.replace("orders", name)).status_code == 400


def check_tokens(client: httpx.Client, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat_silver.orders"])
    form = {"grant_type": "client_credentials", "client_id": "any", "client_secret": secret}
    address = f"{V1}/oauth/tokens"
    assert client.post(address, data=form).status_code == 200
    assert client.post(address, data={"grant_type": "client_credentials"}, auth=("any", secret)).status_code == 200
    assert client.post(address, data={**form, "client_secret": "wrong"}).status_code == 401
    assert client.post(address, data={**form, "grant_type": "password"}).status_code == 400
    assert client.post(address, content=b"x" * 100_000).status_code == 400
    for endpoint in ENDPOINTS:
        method, path = endpoint.split(" ")
        for name, value in NAMES.items():
            path = path.replace(name, value)
        assert client.request(method, f"/iceberg{path}").status_code == 401
    tokens.path.write_text("{")
    assert client.post(address, data=form).status_code == 500
    tokens.path.unlink()


SMALL: Mapping[str, Any] = {
    "paths": {
        "/v1/{prefix}/things/{thing}": {
            "parameters": [{"$ref": "#/components/parameters/size"}],
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                "responses": {
                    200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "5XX": {"content": {}},
                },
            },
        }
    },
    "components": {
        "parameters": {"size": {"name": "size", "in": "query", "schema": {"type": "integer"}}},
        "schemas": {"Thing": {"type": "object", "required": ["name"]}},
    },
}
RIGHT: Mapping[str, Any] = {
    "path": "/v1/things/a",
    "query": "size=1",
    "body": b"{}",
    "status": 200,
    "answer": b'{"name": 1}',
}


@pytest.mark.parametrize(
    ("changed", "violation"),
    [
        ({}, None),
        ({"status": 503, "answer": b"", "body": b"["}, None),
        ({"path": "/v1/others", "status": 404}, None),
        ({"path": "/v1/others"}, "no such operation"),
        ({"path": "/v1/things/a/b"}, "no such operation"),
        ({"status": 404}, "no such status"),
        ({"answer": b"{}"}, "'name' is a required property"),
        ({"answer": b""}, "200: no body"),
        ({"body": b""}, "request: no body"),
        ({"body": b"[]"}, "request: at the top: \\[\\] is not of type 'object'"),
        ({"query": "size=big"}, "size: at the top: 'big' is not of type 'integer'"),
        ({"query": "length=1"}, "no parameter length"),
        ({"media_type": "text/html"}, "a body of text/html"),
    ],
)
def test_the_validator_finds_what_is_wrong(changed: Mapping[str, Any], violation: str | None) -> None:
    made = {**RIGHT, **changed}
    headers = Headers({"content-type": made.pop("media_type", "application/json")})
    validator = Validator(SMALL)
    validator.exchanges.append(Exchange("POST", headers=headers, answer_headers=headers, **made))
    if violation is None:
        validator.decide()
    else:
        with pytest.raises(AssertionError, match=violation):
            validator.decide()
