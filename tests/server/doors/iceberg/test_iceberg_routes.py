"""The door's responses: those of the protocol, as PyIceberg's models have them, without what a caller may not see."""

import base64
import gzip
import json
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pyiceberg.catalog.rest import (
    ConfigResponse,
    ListNamespaceResponse,
    ListTablesResponse,
    LoadCredentialsResponse,
    NamespaceResponse,
    TableResponse,
    ViewResponse,
)
from pyiceberg.catalog.rest.response import ErrorResponse
from pyiceberg.catalog.rest.scan_planning import PlanCompleted

from dagfusion_client.errors import TooBusyError
from dagfusion_contract.iceberg_names import version_of_metadata
from dagfusion_contract.naming import TableName
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http import requests_and_responses
from dagfusion_server.doors.iceberg.iceberg_routes import ENDPOINTS, IcebergRoutes, refusal
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.conftest import DELEGATED, TABLE, snapshot
from tests.server.doors.iceberg.openapi import REPORT, validated
from tests.server.fake_service import FakeService, environment


def refused(response: httpx.Response, status: int, kind: str) -> str:
    """Check an error, and return its text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = ErrorResponse.model_validate_json(response.text).error
    assert (error.code, error.type) == (status, kind)
    return error.message


def test_config(client: httpx.Client) -> None:
    config = ConfigResponse.model_validate_json(client.get("/iceberg/v1/config").text)
    assert config.endpoints is not None
    assert {str(endpoint) for endpoint in config.endpoints} == set(ENDPOINTS)
    for endpoint in ENDPOINTS:
        method, path = endpoint.replace("/{prefix}", "").split(" ")
        filled = path.format(namespace="uat_silver", table="orders", view="none")
        name = filled.rpartition("/")[2]
        expected = 404 if name in ("none", "tasks") else 200 if method == "GET" or name == "plan" else 204
        body = {"plan": {}, "tasks": {"plan-task": "[1, null, true, false, 0]"}, "metrics": REPORT}.get(name)
        assert client.request(method, f"/iceberg{filled}", json=body).status_code == expected, endpoint


def test_namespaces(client: httpx.Client) -> None:
    listed = ListNamespaceResponse.model_validate_json(client.get("/iceberg/v1/namespaces").text)
    assert [tuple(name) for name in listed.namespaces] == [("uat_gold",), ("uat_silver",)]
    one = NamespaceResponse.model_validate_json(client.get("/iceberg/v1/namespaces/uat_gold").text)
    assert tuple(one.namespace) == ("uat_gold",)
    assert client.get("/iceberg/v1/namespaces?parent=uat_gold").json() == {"namespaces": []}
    for path in ("uat_none", "uat_silver%1Forders", "uat_silver%00", "%2e%2e"):
        refused(client.get(f"/iceberg/v1/namespaces/{path}"), 404, "NoSuchNamespaceException")
        assert client.head(f"/iceberg/v1/namespaces/{path}").status_code == 404
    refused(client.get("/iceberg/v1/namespaces?parent=uat_none"), 404, "NoSuchNamespaceException")
    refused(client.get("/iceberg/v1/namespaces/prod_silver"), 503, "ServiceUnavailableException")


def test_a_version_of_a_table_stays_after_the_next_one(client: httpx.Client, tokens: Tokens) -> None:
    path = "/iceberg/v1/namespaces/uat_silver{}/tables/{}"
    current = client.get(path.format("", "orders")).json()
    version = version_of_metadata(current["metadata-location"])
    pinned = client.get(path.format(f"@{version}", "orders"))
    assert pinned.json() == current
    assert client.head(path.format(f"@{version}", "orders")).status_code == 204
    assert client.get(f"/iceberg/v1/namespaces/uat_silver@{version}").status_code == 200
    for other in ("1", "..", version[:-1], f"{version}x", ""):
        refused(client.get(path.format(f"@{other}", "orders")), 404, "NoSuchTableException")
    refused(client.get(path.format(f"@{version}", "x").replace("uat", "prod")), 503, "ServiceUnavailableException")
    refused(client.get(path.format(f"@{version}", "returns")), 404, "NoSuchTableException")
    refused(client.get(path.format(f"@{version}", "none")), 404, "NoSuchTableException")
    headers = {"Authorization": f"Bearer {tokens.create('ann', ['uat_gold.sales'])}"}
    refused(client.get(path.format(f"@{version}", "orders"), headers=headers), 404, "NoSuchTableException")


def test_a_version_of_a_table_that_was_wiped(client: httpx.Client, tokens: Tokens, service: FakeService) -> None:
    path = "/iceberg/v1/namespaces/uat_silver{}/tables/orders"
    current = client.get(path.format("")).json()
    version = current["metadata-location"].rpartition("/")[2].removesuffix(".metadata.json")
    service.catalog["uat"] = environment("uat", replace(snapshot(), tables=MappingProxyType({})))
    refused(client.get(path.format("")), 404, "NoSuchTableException")
    assert client.get(path.format(f"@{version}")).json() == current
    assert client.get(f"/iceberg/v1/namespaces/uat_silver@{version}").status_code == 200
    refused(client.get("/iceberg/v1/namespaces/uat_silver"), 404, "NoSuchNamespaceException")
    headers = {"Authorization": f"Bearer {tokens.create('ann', ['uat_gold.sales', 'uat_silver.returns'])}"}
    refused(client.get(path.format(f"@{version}"), headers=headers), 404, "NoSuchTableException")
    nested = f"/iceberg/v1/namespaces/uat_gold@{version}/tables/..%2Fuat_silver%2Forders"
    assert client.get(nested, headers=headers).status_code == 404


def test_a_dropped_table_takes_no_memory(client: httpx.Client, routes: IcebergRoutes, service: FakeService) -> None:
    """Not after the next load of another table."""
    orders, returns = (TableName("uat_silver", name) for name in ("orders", "returns"))
    publisher, older = routes._publishers["uat"], routes._older
    for name in (orders, returns):
        assert client.get(f"/iceberg/v1/namespaces/{name.schema}/tables/{name.table}").status_code == 200
    assert publisher._tables.keys() == older._found.keys() == {orders, returns}
    left = {name: table for name, table in snapshot().tables.items() if name != orders}
    service.catalog["uat"] = environment("uat", replace(snapshot(), tables=MappingProxyType(left)))
    assert client.get(f"/iceberg/v1/namespaces/{returns.schema}/tables/{returns.table}").status_code == 200
    assert publisher._tables.keys() == older._found.keys() == {returns}


def test_tables(client: httpx.Client) -> None:
    listed = ListTablesResponse.model_validate_json(client.get("/iceberg/v1/namespaces/uat_silver/tables").text)
    assert [(tuple(i.namespace), i.name) for i in listed.identifiers] == [
        (("uat_silver",), name) for name in ("half", "orders", "returns")
    ]
    refused(client.get("/iceberg/v1/namespaces/uat_none/tables"), 404, "NoSuchNamespaceException")
    refused(client.get("/iceberg/v1/namespaces/uat_silver/tables/none"), 404, "NoSuchTableException")
    refused(client.get("/iceberg/v1/namespaces/prod_silver/tables/orders"), 503, "ServiceUnavailableException")
    for name, reason in (("half", "halffloat"), ("twice", "two assets claim it")):  # the protocol declares 400
        response = client.get(path := f"/iceberg/v1/namespaces/uat_silver/tables/{name}")
        assert reason in refused(response, 400, "BadRequestException")
        assert client.head(path).status_code == 400


def test_a_body_that_does_not_come_is_not_waited_for(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_and_responses, "UPLOAD_TIMEOUT_S", 0.2)

    connection = HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=60)
    with closing(connection):
        connection.putrequest("POST", "/iceberg/v1/oauth/tokens")
        connection.putheader("Content-Length", "29")
        connection.endheaders(b"grant_type=")  # the rest is never sent
        answer = connection.getresponse()
        document = json.loads(answer.read())
    assert (answer.status, document["error"]) == (400, "invalid_request")
    assert "was not received within" in document["error_description"]


def test_compressed_bodies_are_refused(client: httpx.Client) -> None:
    content, coding = gzip.compress(b"{}"), {"Content-Encoding": "gzip"}
    refused(client.post(f"{TABLE}/plan", content=content, headers=coding), 400, "BadRequestException")


@pytest.mark.parametrize("snapshots", ["", "?snapshots=all", "?snapshots=refs"])
def test_a_table(client: httpx.Client, snapshots: str) -> None:
    response = client.get(f"{TABLE}{snapshots}", headers=DELEGATED)
    loaded = TableResponse.model_validate_json(response.text)
    assert loaded.metadata_location is not None
    written = Path(loaded.metadata_location.removeprefix("file://")).read_bytes()
    assert written in response.content
    assert [snapshot.snapshot_id for snapshot in loaded.metadata.snapshots] == [loaded.metadata.current_snapshot_id]
    assert "the secret" not in response.text
    assert (loaded.config, loaded.storage_credentials) == ({}, [])
    again = client.get(f"{TABLE}{snapshots}", headers={**DELEGATED, "If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_plan(client: httpx.Client) -> None:
    whole = client.post(f"{TABLE}/plan", json={}, headers=DELEGATED)
    planned = PlanCompleted.model_validate_json(whole.text)
    assert [(task.data_file.partition, task.data_file.record_count) for task in planned.file_scan_tasks] == [
        (["CA"], 3)
    ]
    assert (planned.plan_tasks, planned.storage_credentials) == ([], None)
    snapshot = TableResponse.model_validate_json(client.get(TABLE).text).metadata.current_snapshot_id
    filter_ = {"type": "gt", "term": "id", "value": 3}
    none = client.post(f"{TABLE}/plan", json={"snapshot-id": snapshot, "filter": filter_, "select": ["id"]}).json()
    assert none.pop("plan-id") != planned.plan_id
    assert none == {"status": "completed", "file-scan-tasks": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "the body is not JSON"),
        ("[]", "the body is not a JSON object"),
        ('{"snapshot-id": 7}', "table uat_silver.orders has no snapshot 7 any more: load the table again"),
        ('{"snapshot-id": "x"}', "no snapshot 'x' any more"),
        ('{"snapshot-id": [1]}', "no snapshot [1] any more"),
        ('{"filter": {"type": ["eq"]}}', "unknown type None"),
        ('{"filter": ' + '{"type": "not", "child": ' * 300 + "false" + "}" * 301, "nested 200 deep"),
        ('{"filter": {"type": "in", "term": "id", "values": ' + "[" * 300 + "]" * 300 + "}}", "nested 200 deep"),
        ('{"start-snapshot-id": 1, "end-snapshot-id": 2}', "changes between two snapshots are not planned"),
        (
            '{"filter": {"type": "eq", "term": "secret", "value": 1}}',
            "which the table does not have",
        ),
    ],
)
def test_a_wrong_request_for_a_plan(client: httpx.Client, body: str, message: str) -> None:
    assert message in refused(client.post(f"{TABLE}/plan", content=body), 400, "BadRequestException")


def test_pages_of_a_plan(client: httpx.Client) -> None:
    refused(client.post(f"{TABLE}/tasks", json={"plan-task": "x"}), 400, "BadRequestException")
    gone = {"plan-task": "[7, null, true, false, 1]"}
    assert "plan the scan again" in refused(client.post(f"{TABLE}/tasks", json=gone), 404, "NoSuchPlanTaskException")
    deep = {"plan-task": f"[1, {'[' * 300}{']' * 300}, true, false, 0]"}
    assert "nested" in refused(client.post(f"{TABLE}/tasks", json=deep), 400, "BadRequestException")
    client.post(f"{TABLE}/plan", json={})
    snapshot = TableResponse.model_validate_json(client.get(TABLE).text).metadata.current_snapshot_id
    page = client.post(f"{TABLE}/tasks", json={"plan-task": f"[{snapshot}, null, true, false, 0]"}).json()
    assert [task["residual-filter"] for task in page["file-scan-tasks"]] == [True]
    long = {"plan-task": "x" * (1 << 20)}
    assert "is longer than" in refused(client.post(f"{TABLE}/tasks", json=long), 400, "BadRequestException")


def test_keys_are_for_those_who_ask_where_the_operator_says_so(
    client: httpx.Client, environments: list[EnvironmentConfig], tmp_path: Path, tokens: Tokens
) -> None:
    said = LoadCredentialsResponse.model_validate_json(client.get(f"{TABLE}/credentials").text)
    assert said.storage_credentials == []
    service = FakeService({"prod": environment("prod", snapshot())})
    config = Config(ServiceSettings(), (environments[1],), tmp_path)
    with (
        validated(IcebergRoutes(service, config, tokens).mounts()) as pages,
        serving(service, tokens, config.service, pages=pages) as door,
        httpx.Client(base_url=door.url, trust_env=False, timeout=30) as other,
    ):
        assert "the secret" not in other.get(TABLE).text
        loaded = TableResponse.model_validate_json(other.get(TABLE, headers=DELEGATED).text)
        given = LoadCredentialsResponse.model_validate_json(other.get(f"{TABLE}/credentials").text)
    assert loaded.config["s3.secret-access-key"] == "the secret"
    assert loaded.storage_credentials == given.storage_credentials
    assert [credential.prefix for credential in given.storage_credentials] == ["file:///", "s3://bucket/"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "namespaces"),
        ("DELETE", "namespaces/uat_silver"),
        ("POST", "namespaces/uat_silver/properties"),
        ("POST", "namespaces/uat_silver/tables"),
        ("POST", "namespaces/uat_silver/tables/orders"),
        ("DELETE", "namespaces/uat_silver/tables/orders"),
        ("POST", "namespaces/uat_silver/register"),
        ("POST", "namespaces/uat_silver/views"),
        ("POST", "tables/rename"),
        ("POST", "transactions/commit"),
    ],
)
def test_changes_are_refused(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, f"/iceberg/v1/{path}")
    assert "read-only" in refused(response, 403, "ForbiddenException")


def test_who_asked_too_much_may_ask_again() -> None:
    """The protocol has no status 429, and its clients do not repeat a request after a 400."""
    response = refusal(TooBusyError("many histories are read"))
    refused(
        httpx.Response(response.status_code, headers=response.headers.raw, content=bytes(response.body)),
        503,
        "ServiceUnavailableException",
    )


def test_what_is_not_there(client: httpx.Client) -> None:
    refused(client.get("/iceberg/v1/nothing"), 404, "NotFoundException")
    refused(client.get("/iceberg/v2/config"), 404, "NotFoundException")
    refused(client.get("/iceberg/v1/namespaces/uat_silver/views/none"), 404, "NoSuchViewException")
    refused(client.get("/iceberg/v1/namespaces/uat_silver/views/orders"), 404, "NoSuchViewException")
    assert client.get("/iceberg/v1/namespaces/uat_gold/views").json() == {"identifiers": []}
    refused(client.get("/iceberg/v1/namespaces/dev_silver"), 404, "NoSuchNamespaceException")


def test_tokens(client: httpx.Client, tokens: Tokens) -> None:
    secret = tokens.create("ada", ["uat_silver.orders"])
    refused(client.get("/iceberg/v1/config"), 401, "NotAuthorizedException")
    refused(client.get(TABLE, headers={"Authorization": "Bearer dft_wrong"}), 401, "NotAuthorizedException")
    bearer = {"Authorization": f"Bearer {secret}"}
    assert client.get("/iceberg/v1/namespaces", headers=bearer).json() == {"namespaces": [["uat_silver"]]}
    listed = client.get("/iceberg/v1/namespaces/uat_silver/tables", headers=bearer).json()["identifiers"]
    assert [table["name"] for table in listed] == ["orders"]
    assert client.get(TABLE, headers=bearer).status_code == 200
    returns = TABLE.replace("orders", "returns")
    for path in (returns, f"{returns}/credentials"):
        assert client.get(path, headers=bearer).json() == not_there("uat_silver.returns")
    assert client.post(f"{returns}/metrics", headers=bearer).status_code == 404
    hidden = "/iceberg/v1/namespaces/uat_silver/tables/twice"
    assert client.get(hidden, headers=bearer).json() == not_there("uat_silver.twice")
    refused(client.get("/iceberg/v1/namespaces/uat_gold", headers=bearer), 404, "NoSuchNamespaceException")
    refused(client.get("/iceberg/v1/namespaces/prod_silver", headers=bearer), 404, "NoSuchNamespaceException")


def not_there(name: str) -> dict[str, Any]:
    return {"error": {"message": f"there is no table {name}", "type": "NoSuchTableException", "code": 404}}


def test_plans_of_what_a_token_may_not_read_do_not_exist(client: httpx.Client, tokens: Tokens) -> None:
    headers = {"Authorization": f"Bearer {tokens.create('ada', ['uat_silver.orders'])}"}
    hidden = TABLE.replace("orders", "returns")
    assert client.post(f"{TABLE}/plan", json={}, headers=headers).status_code == 200
    for rest, body in (("plan", {}), ("tasks", {"plan-task": "[1, null, true, false, 0]"})):
        refused(client.post(f"{hidden}/{rest}", json=body, headers=headers), 404, "NoSuchTableException")


def test_a_token_as_the_secret_of_a_client(client: httpx.Client, tokens: Tokens) -> None:
    secret = tokens.create("ada", ["uat"])
    form = {"grant_type": "client_credentials", "client_id": "any", "client_secret": secret, "scope": "catalog"}
    response = client.post("/iceberg/v1/oauth/tokens", data=form)
    assert response.json() == {
        "access_token": secret,
        "token_type": "bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    basic = base64.b64encode(f"any:{secret}".encode()).decode()
    by_header = client.post(
        "/iceberg/v1/oauth/tokens",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {basic}"},
    )
    assert by_header.json() == response.json()
    for wrong in ({**form, "client_secret": "no"}, {"grant_type": "client_credentials"}):
        denied = client.post("/iceberg/v1/oauth/tokens", data=wrong)
        assert (denied.status_code, denied.json()["error"]) == (401, "invalid_client")
    other = client.post("/iceberg/v1/oauth/tokens", data={**form, "grant_type": "password"})
    assert (other.status_code, other.json()) == (400, {"error": "unsupported_grant_type"})
    long = client.post("/iceberg/v1/oauth/tokens", content=b"x" * 100_000)
    assert (long.status_code, long.json()["error"]) == (400, "invalid_request")


def test_pages_of_other_sites_are_refused(client: httpx.Client) -> None:
    refused(client.get("/iceberg/v1/config", headers={"Origin": "https://example.org"}), 403, "ForbiddenException")


def test_without_a_folder_there_is_no_door(
    tmp_path: Path, tokens: Tokens, environments: list[EnvironmentConfig]
) -> None:
    assert IcebergRoutes(FakeService(), Config(ServiceSettings(), (environments[2],), tmp_path), tokens).mounts() == []


def test_views(client: httpx.Client, tokens: Tokens) -> None:
    """A view may be read by those who may read its tables."""
    views = "/iceberg/v1/namespaces/uat_silver/views"
    seen = {"namespace": ["uat_silver"], "name": "seen"}
    assert client.get(views).json() == {"identifiers": [seen]}
    assert seen not in client.get(views.replace("views", "tables")).json()["identifiers"]
    assert client.get(f"{views.replace('views', 'tables')}/seen").status_code == 404
    loaded = client.get(f"{views}/seen")
    view = ViewResponse.model_validate_json(loaded.text)
    assert view.metadata_location is not None
    assert Path(view.metadata_location.removeprefix("file://")).read_bytes() in loaded.content
    pinned = f"{views[:-6]}@{version_of_metadata(view.metadata_location)}/tables/seen"
    refused(client.get(pinned), 404, "NoSuchTableException")
    (version,) = view.metadata.versions
    statements = {one.root.dialect: one.root.sql for one in version.representations}
    assert statements == {
        "datafusion": "SELECT id FROM uat_silver.orders",
        "spark": "SELECT id FROM `uat_silver`.`orders`",
    }
    assert [(field.name, str(field.field_type)) for field in view.metadata.schemas[0].fields] == [("id", "long")]
    assert (version.summary["dagster.event-id"], version.summary["dagster.run-id"]) == ("10", "run")
    written_at = Path(view.metadata_location.removeprefix("file://")).stat().st_mtime_ns
    assert client.get(f"{views}/seen").content == loaded.content
    assert Path(view.metadata_location.removeprefix("file://")).stat().st_mtime_ns == written_at, "it was there"
    for grant, status in (("uat_silver.orders", 200), ("uat_silver.returns", 404)):
        secret = tokens.create(grant, [grant])
        bearer = {"Authorization": f"Bearer {secret}"}
        assert client.get(f"{views}/seen", headers=bearer).status_code == status
        assert client.get(views, headers=bearer).json() == {"identifiers": [seen] if status == 200 else []}
