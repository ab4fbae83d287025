"""A client and models that were generated from Iceberg's OpenAPI document judge the door and its other clients."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from starlette.routing import Mount

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_query.access.authentication import Tokens
from dagfusion_server.doors.iceberg.iceberg_routes import ENDPOINTS
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.server.doors.iceberg.conftest import DELEGATED
from tests.server.doors.iceberg.generated_client import (
    READS,
    GeneratedClient,
    RefusedError,
    running_generated_client,
)
from tests.server.doors.iceberg.generated_client_cases import (
    BROKEN,
    KINDS,
    ORDERS,
    SEEN,
    SPACE,
    STATEMENT,
    WRITES,
    Names,
    broken,
)
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, loaded, running
from tests.server.doors.iceberg.openapi import REPORT, Exchange, recorded
from tests.server.doors.iceberg.test_clients import partition, raw
from tests.server.doors.iceberg.test_openapi import FILTERS, NAMES, check_tables, check_tokens, opened

pytestmark = pytest.mark.usefixtures("processes")


@dataclass(frozen=True)
class Door:
    """A door over real assets, and what it was asked."""

    lake: Lake
    client: GeneratedClient
    exchanges: list[Exchange]


@pytest.fixture(scope="module")
def door(s3_fields: dict[str, Any], sqlite_pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder, exchanges = tmp_path_factory.mktemp("generated"), list[Exchange]()
    home = folder / "home"
    shutil.copytree(sqlite_pattern, home)
    with (
        running(home, folder, s3_fields, "generated", exchanges=exchanges) as lake,
        running_generated_client(lake.url, folder) as client,
    ):
        write_tables(lake, s3_fields)
        yield Door(lake, client, exchanges)


def write_tables(lake: Lake, s3_fields: dict[str, Any]) -> None:
    """Write a table with hostile values and a NULL partition, whose columns change; one of many types; and a view."""
    places = Places("orders")
    per_run = PartitionedS3ParquetIOManager(**s3_fields, prefix="generated", file_naming="per_run")
    first = places.of(HOSTILE, n=pl.int_range(len(HOSTILE)).cast(pl.Int32), gone=pl.lit("é"))
    lake.materialize(first, per_run, tags=key_range(HOSTILE[0], HOSTILE[-1]))
    lake.materialize(places.of(["a/b"], n=pl.lit(2**40), more=pl.lit(1.5)), per_run, partition_key="a/b")
    kinds = pa.table(
        {
            "id": [1],
            "price": pa.array(["1.25"]).cast(pa.decimal128(6, 2)),
            "at": pa.array(["2024-02-29T12:34:56.123456Z"]).cast(pa.timestamp("us", "UTC")),
            "list": [[{"a": 1, "b": b"\0"}]],
            "map": pa.array([[("k", [1.5])]], pa.map_(pa.string(), pa.list_(pa.float32()))),
            "big": pa.array([1], pa.uint64()),
        }
    )

    @dg.asset(name="kinds")
    def made() -> pa.Table:
        return kinds

    lake.materialize(made, S3ParquetIOManager(**s3_fields, prefix="generated"))
    nowhere = {**raw(lake, "prices", pa.table({"n": [7]})), "partition": [partition("place", None)]}
    lake.report("prices", "none", nowhere)
    entry = view_entry(View(STATEMENT, (TableName("uat_default", "kinds"),), pa.schema({"id": pa.int64()})))
    seen = dg.AssetMaterialization("seen", metadata={VIEW_ENTRY: dg.MetadataValue.json(entry)})
    lake.instance.report_runless_asset_event(seen)
    lake.environments.refresh(PATIENCE_S)


def test_each_operation(door: Door) -> None:
    """The client calls all that the catalog names, and its models know every field of the responses."""
    client, lake = door.client, door.lake
    before = len(door.exchanges)
    assert client.call("get_config")["fields"]["endpoints"] == [*ENDPOINTS]
    assert client.call("list_namespaces")["fields"] == {"namespaces": [["uat_default"]]}
    assert client.call("list_namespaces", parent="uat_default")["fields"] == {"namespaces": []}
    assert client.call("load_namespace_metadata", **SPACE)["fields"]["namespace"] == ["uat_default"]
    listed = client.call("list_tables", **SPACE)["fields"]["identifiers"]
    assert {one["name"] for one in listed} == {"orders", "kinds", "prices"}
    assert client.call("list_views", **SPACE)["fields"] == {
        "identifiers": [{"namespace": ["uat_default"], "name": "seen"}]
    }
    for operation, names in (("namespace_exists", SPACE), ("table_exists", ORDERS), ("view_exists", SEEN)):
        assert client.call(operation, **names)["status"] == 204
    check_tables_and_views(client, lake)
    check_plans(client)
    given = client.call("load_credentials", **ORDERS)["fields"]["storage-credentials"]
    assert {one["config"]["s3.access-key-id"] for one in given} == {lake.variables["AWS_ACCESS_KEY_ID"]}
    assert client.call("report_metrics", **ORDERS, report_metrics_request=REPORT)["status"] == 204
    called = {client.judge(exchange) for exchange in door.exchanges[before:]}
    assert called == {*READS.values()} - {"get_token"}
    assert READS.keys() - {"GET /v1/config", "POST /v1/oauth/tokens"} == {*ENDPOINTS}


def check_tables_and_views(client: GeneratedClient, lake: Lake) -> None:
    known = loaded(lake, "uat_default.orders", 2)
    whole = client.call("load_table", **ORDERS, snapshots="all", x_iceberg_access_delegation="vended-credentials")
    fields, metadata = whole["fields"], whole["fields"]["metadata"]
    assert fields["metadata-location"] == known.metadata_location
    assert fields["storage-credentials"][0]["prefix"].startswith("s3://lake/")
    assert [one["snapshot-id"] for one in metadata["snapshots"]] == [one.snapshot_id for one in known.snapshots()]
    assert metadata["snapshots"][1]["parent-snapshot-id"] == metadata["snapshots"][0]["snapshot-id"]
    assert metadata["snapshots"][1]["summary"]["operation"] == "overwrite"
    types = [{one["name"]: one["type"] for one in schema["fields"]} for schema in metadata["schemas"]]
    assert types[0] == {"place": "string", "n": "long", "more": "double", "gone": "string"}
    assert types[1] == {"place": "string", "n": "int", "gone": "string"}
    assert [one["transform"] for one in metadata["partition-specs"][0]["fields"]] == ["identity"]
    again = client.call(
        "load_table", **ORDERS, x_iceberg_access_delegation="vended-credentials", if_none_match=whole["headers"]["etag"]
    )
    assert (again["status"], again["body"]) == (304, None)
    refs = client.call("load_table", **ORDERS, snapshots="refs")["fields"]["metadata"]
    assert [one["snapshot-id"] for one in refs["snapshots"]] == [metadata["current-snapshot-id"]]
    assert refs["refs"]["main"] == {"type": "branch", "snapshot-id": metadata["current-snapshot-id"]}

    kinds = client.call("load_table", **KINDS)["fields"]["metadata"]
    assert kinds["properties"]["dagfusion.left-out.big"]
    nested = {one["name"]: one["type"] for one in kinds["schemas"][0]["fields"]}
    assert (nested["price"], nested["at"]) == ("decimal(6, 2)", "timestamptz")
    assert [one["type"] for one in nested["list"]["element"]["fields"]] == ["long", "binary"]
    assert (nested["map"]["key"], nested["map"]["value"]["element"]) == ("string", "float")

    (version,) = client.call("load_view", **SEEN)["fields"]["metadata"]["versions"]
    assert {one["dialect"]: one["sql"] for one in version["representations"]}["datafusion"] == STATEMENT


def check_plans(client: GeneratedClient) -> None:
    def files(planned: Mapping[str, Any]) -> dict[Any, tuple[int, Any]]:
        assert planned["status"] == 200, planned["body"]
        tasks = planned["fields"]["file-scan-tasks"]
        return {
            task["data-file"]["partition"][0]: (task["data-file"]["record-count"], task["residual-filter"])
            for task in tasks
        }

    whole = client.call("plan_table_scan", **ORDERS, plan_table_scan_request={})
    assert whole["fields"]["status"] == "completed"
    assert files(whole) == dict.fromkeys(HOSTILE, (1, True))
    filters = {
        "a/b": {"type": "gt", "term": "n", "value": 2**39},
        "ü ñ": {"type": "in", "term": "place", "values": ["ü ñ", "none"]},
    }
    for place, one in filters.items():
        found = client.call("plan_table_scan", **ORDERS, plan_table_scan_request={"filter": one})
        assert [*files(found)] == [place]
    undecided = {"type": "and", "left": filters["ü ñ"], "right": {"type": "not-eq", "term": "gone", "value": "x"}}
    found = client.call("plan_table_scan", **ORDERS, plan_table_scan_request={"filter": undecided})
    assert files(found) == {"ü ñ": (1, undecided)}
    none = client.call("plan_table_scan", namespace="uat_default", table="prices", plan_table_scan_request={})
    assert files(none) == {None: (1, True)}
    snapshot = client.call("load_table", **ORDERS)["fields"]["metadata"]["current-snapshot-id"]
    page = {"plan-task": f"[{snapshot}, null, true, false, 4]"}
    rest = client.call("fetch_scan_tasks", **ORDERS, fetch_scan_tasks_request=page)
    assert len(files(rest)) == len(HOSTILE) - 4


def test_writes_are_refused(door: Door) -> None:
    for operation, arguments in WRITES.items():
        refused = door.client.call(operation, **arguments)
        assert refused["status"] == 403, operation
        assert refused["fields"]["error"]["type"] == "ForbiddenException"
        assert "read-only" in refused["fields"]["error"]["message"]


def test_what_is_missing(door: Door) -> None:
    missing: Mapping[str, tuple[Names, str]] = {
        "list_tables": ({"namespace": "none"}, "NoSuchNamespaceException"),
        "load_table": ({**SPACE, "table": "none"}, "NoSuchTableException"),
        "load_view": ({**SPACE, "view": "none"}, "NoSuchViewException"),
    }
    for operation, (names, kind) in missing.items():
        found = door.client.call(operation, **names)
        assert (found["status"], found["fields"]["error"]["type"]) == (404, kind)
    odd = {"filter": {"type": "eq", "term": "unknown", "value": 1}}
    wrong = door.client.call("plan_table_scan", **ORDERS, plan_table_scan_request=odd)
    assert (wrong["status"], wrong["fields"]["error"]["code"]) == (400, 400)


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
def test_what_other_clients_send_and_get(door: Door) -> None:
    """The requests of DuckDB, PyIceberg and Polars, and their responses, are as the document says."""
    before = len(door.exchanges)
    rows = door.lake.answers("uat_default.orders", ["place", "n", "more"])
    assert all(found == rows["dagfusion"] for found in rows.values())
    planned = door.lake.planning().load_table("uat_default.orders")
    assert planned.scan("n > 5 AND place != 'x=1' OR more IS NULL AND NOT place IN ('a b', '50%')").to_arrow().num_rows
    assert door.lake.pyiceberg().view_exists("uat_default.seen")
    seen = {door.client.judge(exchange) for exchange in door.exchanges[before:]}
    assert {"get_config", "load_table", "plan_table_scan", "view_exists"} <= seen


def test_access_tokens(door: Door, tmp_path: Path, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat_silver.orders"])
    form: Names = {"grant_type": "client_credentials", "client_id": "any"}
    space: Names = {"namespace": "uat_silver"}
    with opened(tmp_path, tokens, nullcontext) as other:
        url = f"{other.base_url}/iceberg"
        granted = door.client.call("get_token", url=url, **form, client_secret=secret)["fields"]
        assert (granted["access_token"], granted["token_type"]) == (secret, "bearer")
        wrong = door.client.call("get_token", url=url, **form, client_secret="wrong")
        assert (wrong["status"], wrong["fields"]["error"]) == (401, "invalid_client")
        bearer = {"Authorization": f"Bearer {granted['access_token']}"}
        visible = door.client.call("list_tables", url=url, **space, headers=bearer)["fields"]["identifiers"]
        assert [one["name"] for one in visible] == ["orders"]
        hidden = door.client.call("load_table", url=url, **space, table="returns", headers=bearer)
        assert (hidden["status"], hidden["fields"]["error"]["type"]) == (404, "NoSuchTableException")
        refused = door.client.call("load_table", url=url, **space, table="orders")
        assert (refused["status"], refused["fields"]["error"]["type"]) == (401, "NotAuthorizedException")


def test_every_status(door: Door, tmp_path: Path, tokens: Tokens) -> None:
    """The errors of tables and environments that cannot be read, of tokens, and of wrong requests."""
    exchanges: list[Exchange] = []

    @contextmanager
    def watched(mounts: Sequence[Mount]) -> Iterator[Sequence[Mount]]:
        yield recorded(mounts, exchanges)

    with opened(tmp_path, tokens, watched) as client:
        for operation in READS:
            method, path = operation.split(" ")
            for name, value in NAMES.items():
                path = path.replace(name, value)
            for namespace in ("uat_silver", "uat_none", "prod_silver"):
                body = REPORT if path.endswith("/metrics") else {}
                client.request(method, f"/iceberg{path}".replace("uat_silver", namespace), json=body)
        for one in FILTERS:
            client.post("/iceberg/v1/namespaces/uat_silver/tables/orders/plan", json={"filter": one}, headers=DELEGATED)
        check_tables(client)
        check_tokens(client, tokens)
    judged = {(door.client.judge(exchange), exchange.status) for exchange in exchanges}
    for operation in {*READS.values()} - {"get_config", "get_token"}:
        assert (operation, 401) in judged
        assert {(operation, 200), (operation, 204)} & judged, operation
    assert {(operation, 503) for operation in ("load_table", "load_view", "plan_table_scan")} <= judged
    assert {("get_token", status) for status in (200, 400, 401, 500)} <= judged


def test_broken_responses_are_refused(door: Door) -> None:
    for operation, (arguments, wrongs) in BROKEN.items():
        right = door.client.call(operation, **arguments)
        status, body = right["status"], right["body"]
        assert door.client.reads(operation, body, status, **arguments)["fields"] == body
        for place, value, reason in wrongs:
            refusal = door.client.refusal(operation, broken(body, place, value), status, **arguments)
            assert reason in refusal, (operation, place)
        assert "no status 418" in door.client.refusal(operation, body, 418, **arguments)
        assert "a body of text/html" in door.client.refusal(operation, body, status, "text/html", **arguments)
        assert "JSONDecodeError" in door.client.refusal(operation, "", status, **arguments)
    assert "a body" in door.client.refusal("table_exists", {}, 204, **ORDERS)


def test_broken_exchanges_are_refused(door: Door) -> None:
    before = len(door.exchanges)
    door.lake.planning().load_table("uat_default.orders").scan().to_arrow()
    (right,) = [one for one in door.exchanges[before:] if one.path.endswith("/plan")]
    assert door.client.judge(right) == "plan_table_scan"
    wrongs: Sequence[tuple[dict[str, Any], str]] = (
        ({"body": b'{"snapshot-id": "7"}'}, "snapshot-id"),
        ({"body": b'{"snapshots": 7}'}, "at /snapshots"),
        ({"body": b'{"filter": {"type": "eq", "term": "n"}}'}, "value"),
        ({"query": "size=7"}, "size"),
        ({"path": "/v1/others"}, "no such operation"),
        ({"path": "/v1/others", "status": 404}, "IcebergErrorResponse"),
        ({"answer": b"{}"}, "status"),
    )
    for wrong, reason in wrongs:
        with pytest.raises(RefusedError, match=reason):
            door.client.judge(right._replace(**wrong))
