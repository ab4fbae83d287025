"""The catalog over HTTP: tables, columns and partitions, as far as the caller may read them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import httpx
import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    EnvironmentUnavailableError,
    MalformedRecordError,
    NameCollisionError,
    SchemaConflictError,
)
from dagfusion_contract.naming import TableName
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.live_catalog import Lag
from dagfusion_query.catalog.model import Snapshot, Table, files_schema
from dagfusion_query.event_log.event_log_interface import History, PlannedRun
from dagfusion_server.doors.table_documents import page, partition_stream, partitions
from tests.server.fake_service import FakeService, environment

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTITION = pa.schema({"state": pa.string(), "date": pa.date32()})
UAT = "uat_silver"


def table(name: str, rows: int = 4, environment: str = "uat") -> Table:
    """A table with a partition a row, the last state and day first."""
    days = [START.date() + timedelta(days=row // 2) for row in range(rows)]
    states = [("NY", "CA")[row % 2] for row in range(rows)]
    schema = files_schema(PARTITION, pa.struct([]))
    columns = {
        "event_id": list(range(rows)),
        "partition_key": [f"{state}|{day}" for state, day in zip(states, days, strict=True)],
        "uri": ["s3://secret-bucket/x"] * rows,
        "size_bytes": [100] * rows,
        "rows": [10] * rows,
        "modified": [START] * rows,
        "etag": [None] * rows,
        "checksum": [None] * rows,
        "run_id": [f"run-{row}" for row in range(rows)],
        "materialized_at": [START + timedelta(minutes=row) for row in range(rows)],
        "schema_fingerprint": ["0"] * rows,
        "partition": [{"state": s, "date": d} for s, d in zip(states, days, strict=True)],
        "stats": [{}] * rows,
        "entry": [b""] * rows,
    }
    key = ("Silver", "TaxID", name)
    return Table(
        key,
        TableName(f"{environment}_silver", name),
        pa.schema({"id": pa.int64(), "name": pa.string()}),
        PARTITION,
        "id",
        pa.Table.from_pydict(columns, schema),
        warnings=[MalformedRecordError("partition TX is left out: 'file:///srv/lake/x' is gone")],
    )


@pytest.fixture(autouse=True)
def catalog(service: FakeService) -> None:
    broken = replace(table("broken", 0), problem=SchemaConflictError("id is int64 and string"), warnings=[])
    tables = {t.name: t for t in (table("orders"), broken, table("secret"))}
    twice = {TableName(UAT, "twice"): NameCollisionError("two assets are called twice")}
    snapshot = Snapshot(7, "uat", MappingProxyType(tables), MappingProxyType(twice))
    lag = Lag(0.25, None, 1)
    service.catalog = {
        "uat": environment("uat", snapshot, None, lag, "https://dagster.example/uat/"),
        "prod": environment(
            "prod", Snapshot(0, "prod"), EnvironmentUnavailableError("environment prod cannot be read now")
        ),
    }


@pytest.fixture
def restricted(client: httpx.Client, tokens: Tokens) -> Iterator[httpx.Client]:
    """May read one table."""
    token = tokens.create("ann", [f"{UAT}.orders"])
    with httpx.Client(
        base_url=client.base_url, trust_env=False, headers={"Authorization": f"Bearer {token}"}
    ) as restricted:
        yield restricted


def test_all_tables_are_listed(client: httpx.Client) -> None:
    document = client.get("/v1/tables").json()

    assert document["environments"] == [
        {
            "name": "uat",
            "generation": 7,
            "age_s": 0.25,
            "problem": None,
            "dagster_url": "https://dagster.example/uat/",
        },
        {
            "name": "prod",
            "generation": 0,
            "age_s": None,
            "problem": {"code": "environment_unavailable", "detail": "environment prod cannot be read now"},
            "dagster_url": None,
        },
    ]
    shown = {listed["name"]: listed for listed in document["tables"]}
    assert list(shown) == ["broken", "orders", "secret", "twice"]
    assert shown["orders"] == {
        "environment": "uat",
        "schema": UAT,
        "name": "orders",
        "asset_key": ["Silver", "TaxID", "orders"],
        "partition_columns": ["state", "date"],
        "partitions": 4,
        "rows": 40,
        "bytes": 400,
        "materialized_at": "2026-01-01T00:03:00Z",
        "problem": None,
        "warnings": 1,
        "kind": "table",
    }
    assert shown["broken"]["problem"] == {"code": "schema_conflict", "detail": "id is int64 and string"}
    assert shown["broken"]["materialized_at"] is None
    assert shown["twice"]["problem"]["code"] == "name_collision"


def test_an_unchanged_catalog_is_not_sent_again(client: httpx.Client, service: FakeService) -> None:
    first = client.get("/v1/tables")
    known = {"If-None-Match": f'"else", {first.headers["etag"]}'}

    again = client.get("/v1/tables", headers=known)

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get("/v1/tables?tables=full", headers=known).status_code == 200
    uat = service.catalog["uat"]
    changes = [
        replace(uat, snapshot=replace(uat.snapshot, generation=8)),
        replace(uat, problem=EnvironmentUnavailableError("environment uat cannot be read now")),
        replace(uat, lag=Lag(61.0, None, 1)),
    ]
    for change in changes:
        service.catalog["uat"] = change
        assert client.get("/v1/tables", headers=known).status_code == 200


def test_an_entity_tag_is_of_what_its_caller_may_read(
    client: httpx.Client, restricted: httpx.Client, tokens: Tokens
) -> None:
    tag = restricted.get("/v1/tables").headers["etag"]
    everything = {"Authorization": f"Bearer {tokens.create('root', ['*'])}", "If-None-Match": tag}

    assert client.get("/v1/tables", headers=everything).status_code == 200
    assert restricted.get("/v1/tables", headers={"If-None-Match": tag}).status_code == 304


def test_a_table_in_full(client: httpx.Client) -> None:
    document = client.get(f"/v1/tables/{UAT}/orders").json()

    assert document["columns"] == [
        {"name": "id", "type": "int64", "nullable": True, "partition": False},
        {"name": "name", "type": "string", "nullable": True, "partition": False},
        {"name": "state", "type": "string", "nullable": True, "partition": True},
        {"name": "date", "type": "date32[day]", "nullable": True, "partition": True},
    ]
    assert document["last_run_id"] == "run-3"
    assert document["dagster_url"] == "https://dagster.example/uat/assets/Silver/TaxID/orders"
    assert document["warnings"] == ["partition TX is left out: '[folder]/x' is gone"]


def test_a_table_with_a_problem_is_described_too(client: httpx.Client) -> None:
    assert client.get(f"/v1/tables/{UAT}/broken").json()["problem"]["code"] == "schema_conflict"
    assert client.get(f"/v1/tables/{UAT}/broken/partitions").json() == {"partitions": [], "total": 0}


def test_a_name_that_two_assets_claim(client: httpx.Client) -> None:
    answer = client.get(f"/v1/tables/{UAT}/twice")

    assert (answer.status_code, answer.json()["code"]) == (422, "name_collision")


def test_partitions_come_in_the_order_of_their_values(client: httpx.Client) -> None:
    document = client.get(f"/v1/tables/{UAT}/orders/partitions").json()

    assert document["total"] == 4
    assert [(row["state"], row["date"]) for row in document["partitions"]] == [
        ("CA", "2026-01-01"),
        ("CA", "2026-01-02"),
        ("NY", "2026-01-01"),
        ("NY", "2026-01-02"),
    ]
    assert document["partitions"][0] == {
        "state": "CA",
        "date": "2026-01-01",
        "partition_key": "CA|2026-01-01",
        "rows": 10,
        "bytes": 100,
        "materialized_at": "2026-01-01T00:01:00Z",
        "run_id": "run-1",
    }


def test_a_partition_of_several_files_counts_once_and_is_listed_by_file(
    client: httpx.Client, service: FakeService
) -> None:
    several = table("folder")
    files = several.files.set_column(0, "event_id", pa.chunked_array([[7, 7, 7, 8]], pa.int64()))
    found = replace(several, files=files)
    service.catalog = {"uat": environment("uat", Snapshot(1, "uat", MappingProxyType({found.name: found})))}
    (listed,) = client.get("/v1/tables").json()["tables"]
    assert (listed["partitions"], listed["rows"], listed["bytes"]) == (2, 40, 400)
    document = client.get(f"/v1/tables/{UAT}/folder/partitions").json()
    assert (len(document["partitions"]), document["total"]) == (4, 4)


def test_pages_of_partitions(client: httpx.Client) -> None:
    path = f"/v1/tables/{UAT}/orders/partitions"
    whole = client.get(path).json()["partitions"]

    pages = [client.get(path, params={"limit": 3, "offset": at}).json() for at in (0, 3, 6)]

    assert [len(page["partitions"]) for page in pages] == [3, 1, 0]
    assert [row for page in pages for row in page["partitions"]] == whole
    assert {page["total"] for page in pages} == {4}


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "limit=1e3", "limit=100001", "offset=٣", "offset=1.0", "format=csv", "limit="]
)
def test_a_page_is_asked_for_strictly(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/v1/tables/{UAT}/orders/partitions?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_all_partitions_as_arrow(client: httpx.Client) -> None:
    answer = client.get(f"/v1/tables/{UAT}/orders/partitions", params={"format": "arrow"})
    rows = pa.ipc.open_stream(answer.content).read_all()

    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert rows.column_names == ["state", "date", "partition_key", "rows", "bytes", "materialized_at", "run_id"]
    assert rows["partition_key"].to_pylist() == ["NY|2026-01-01", "CA|2026-01-01", "NY|2026-01-02", "CA|2026-01-02"]


@pytest.mark.parametrize("names", [(".", ".."), (".x", "x"), ("[0]", "0")])
def test_partitions_are_ordered_by_columns_that_are_named_as_paths_are(names: tuple[str, str]) -> None:
    schema = pa.schema([(names[0], pa.string()), (names[1], pa.int64())])
    files = table("orders").files
    values = pa.StructArray.from_arrays([["b", "a", "b", "a"], [1, 2, 0, 0]], fields=[*schema])
    files = files.set_column(files.column_names.index("partition"), "partition", values)

    found = page(replace(table("orders"), partition_schema=schema, files=files), 0, 9)

    assert [(row[names[0]], row[names[1]]) for row in found] == [("a", 0), ("a", 2), ("b", 0), ("b", 1)]


def test_partitions_keep_their_columns_names() -> None:
    clash = pa.schema({"rows": pa.string(), "rows_": pa.string()})
    files = table("orders").files
    values = pa.array([{"rows": "a", "rows_": "b"}] * 4, pa.struct(list(clash)))
    files = files.set_column(files.column_names.index("partition"), "partition", values)

    found = partitions(replace(table("orders"), partition_schema=clash, files=files))

    assert found.column_names[:4] == ["rows", "rows_", "partition_key", "rows__"]
    assert found["rows"].to_pylist() == ["a"] * 4


@pytest.mark.usefixtures("heavy")
def test_many_partitions_are_streamed_piece_by_piece() -> None:
    rows = 1_000_000
    one = table("orders", 1)
    many = replace(one, files=pa.concat_tables([one.files] * 10).take(pa.array([0] * rows)))

    pieces = list(partition_stream(many))

    assert len(pieces) > 10
    assert max(map(len, pieces)) < 16 << 20
    assert pa.ipc.open_stream(b"".join(pieces)).read_all().num_rows == rows


def test_what_was_done_about_a_partition(client: httpx.Client, service: FakeService) -> None:
    runs = [PlannedRun("run-9", 60_000_000, "FAILURE"), PlannedRun("run-8", 0, None)]
    service.histories["uat", ("Silver", "TaxID", "orders"), "2026-01-03|CA"] = History(runs, None, 1_500_000)
    path = f"/v1/tables/{UAT}/orders/history"

    assert client.get(path, params={"partition_key": "2026-01-03|CA"}).json() == {
        "partition_key": "2026-01-03|CA",
        "runs": [
            {"run_id": "run-9", "status": "FAILURE", "created_at": "1970-01-01T00:01:00Z"},
            {"run_id": "run-8", "status": None, "created_at": "1970-01-01T00:00:00Z"},
        ],
        "materialized_at": None,
        "wiped_at": "1970-01-01T00:00:01.500000Z",
    }
    whole = client.get(path).json()
    assert (whole["partition_key"], whole["runs"]) == (None, [])
    for bad in ({"partition_key": "a\0b"}, {"partition_key": "a" * 5000}):
        answer = client.get(path, params=bad)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("name", ["secret", "broken", "nothing", "twice"])
@pytest.mark.parametrize("rest", ["", "/partitions", "/partitions?format=arrow", "/history?partition_key=a"])
def test_what_may_not_be_read_is_not_there(restricted: httpx.Client, name: str, rest: str) -> None:
    answer = restricted.get(f"/v1/tables/{UAT}/{name}{rest}")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_table")
    assert answer.json()["detail"] == f"there is no table {UAT}.{name}: /v1/tables lists all"


def test_what_may_be_read_is_all_there_is(restricted: httpx.Client) -> None:
    document = restricted.get("/v1/tables").json()

    assert [environment["name"] for environment in document["environments"]] == ["uat"]
    assert [listed["name"] for listed in document["tables"]] == ["orders"]
    assert "secret" not in restricted.get("/v1/tables").text
    assert restricted.get(f"/v1/tables/{UAT}/orders").status_code == 200


def test_no_answer_names_an_object(client: httpx.Client) -> None:
    paths = ("/v1/tables", f"/v1/tables/{UAT}/orders", f"/v1/tables/{UAT}/orders/partitions")

    assert [path for path in paths if "secret-bucket" in client.get(path).text] == []


def test_a_strange_name_is_only_a_name(client: httpx.Client) -> None:
    answer = client.get(f"/v1/tables/{'x' * 1000}/%0d%0aSet-Cookie:a=b")

    assert answer.status_code == 404
    assert len(answer.json()["detail"]) < 300
    assert "set-cookie" not in answer.headers
