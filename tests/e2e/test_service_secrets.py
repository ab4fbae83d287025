"""What the service keeps secret, tried from outside: tables without a grant, files, settings, other sites' pages."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dagfusion_client.errors import UnauthenticatedError, UnknownTableError
from dagfusion_query.connector import connect
from tests.e2e.lake import EXTRACTS, ORDERS_BY_STATE, REGISTER, TABLES, Lake
from tests.server.processes.process import Server, run

ORGANIZATIONS = TABLES[EXTRACTS]
SECRET = TABLES[ORDERS_BY_STATE].replace("local_", "prod_")
COUNT = f"select count(npi) as n from {ORGANIZATIONS}"
UNREADABLE = (SECRET, TABLES[REGISTER], "prod_gold_analytics.daily_org_aggregates")


@pytest.fixture(scope="module")
def token(service_folder: Path) -> str:
    """May read one table of `local`."""
    created = run(service_folder, "token", "create", "ann", "--grant", ORGANIZATIONS)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip()


@pytest.fixture
def ann(server: Server, token: str) -> Iterator[httpx.Client]:
    with server.client(token) as client:
        yield client


def sql(client: httpx.Client, statement: str, path: str = "/v1/sql") -> httpx.Response:
    body = {"sql": statement} | ({"format": "json"} if path == "/v1/sql" else {})
    return client.post(path, json=body)


def test_what_it_may_read_it_can(ann: httpx.Client) -> None:
    assert sql(ann, COUNT).status_code == 200
    assert [f"{t['schema']}.{t['name']}" for t in ann.get("/v1/tables").json()["tables"]] == [ORGANIZATIONS]


@pytest.mark.parametrize("table", UNREADABLE)
def test_a_table_it_may_not_read_is_as_one_that_is_not_there(ann: httpx.Client, table: str) -> None:
    schema, name = table.split(".")
    missing = f"{schema}.{name[:-1]}x"  # so that both resemble the same names
    for path in ("/v1/sql", "/v1/explain"):
        for statement in (
            "select * from {}",
            "explain select * from {}",
            f"select * from {ORGANIZATIONS} join {{}} using (npi)",
        ):
            refused = sql(ann, statement.format(table), path)
            absent = sql(ann, statement.format(missing), path)
            assert (refused.status_code, refused.json()["code"]) == (400, "unknown_table")
            assert refused.json()["detail"].replace(table, "T") == absent.json()["detail"].replace(missing, "T")
    for rest in ("", "/partitions", "/partitions?format=arrow", "/history?partition_key=a"):
        assert ann.get(f"/v1/tables/{schema}/{name}{rest}").status_code == 404


@pytest.mark.parametrize(
    "statement",
    [
        "select * from information_schema.tables",
        "select * from information_schema.columns",
        "select * from information_schema.schemata",
        "select * from information_schema.views",
        "select * from information_schema.df_settings",
        "show tables",
        "show all",
        f"describe {SECRET}",
        "explain verbose select * from " + ORGANIZATIONS,
        "select * from " + ORGANIZATIONS.replace("organizations", "organisations"),
        "select nothing from " + ORGANIZATIONS,
        "select 1 from prod_silver_commerce.nothing",
    ],
)
def test_no_answer_names_what_it_may_not_read(ann: httpx.Client, statement: str) -> None:
    for path in ("/v1/sql", "/v1/explain"):
        said = sql(ann, statement, path).text
        for table in UNREADABLE:
            named = table.split(".")[1] in statement
            assert named or table.split(".")[1] not in said
        assert "prod_" not in said.replace("prod_silver_commerce.nothing", "").replace(SECRET, "")


def test_it_sees_only_its_own_queries(server: Server, ann: httpx.Client) -> None:
    with server.client() as anonymous:
        sql(anonymous, f"select count(*) from {SECRET}")
        others = [query["id"] for query in anonymous.get("/v1/queries").json()["queries"] if query["user"] != "ann"]
    assert {query["user"] for query in ann.get("/v1/queries").json()["queries"]} <= {"ann"}
    for query_id in others[:3]:
        assert ann.get(f"/v1/queries/{query_id}").status_code == 404
        assert ann.delete(f"/v1/queries/{query_id}").status_code == 404
    assert ann.get("/metrics").status_code == 403


def test_flight_hides_the_same(server: Server, token: str) -> None:
    with connect(server.flight_url, token=token, settings={}) as connection:
        assert [table.name for table in connection.tables()] == [ORGANIZATIONS]
        with pytest.raises(UnknownTableError):
            connection.sql(f"select * from {SECRET}")
    with connect(server.flight_url, token="dft_wrong", settings={}) as stranger, pytest.raises(UnauthenticatedError):
        stranger.sql("select 1").to_arrow()


@pytest.mark.parametrize("made", ["expired", "revoked"])
def test_a_token_that_is_over(server: Server, service_folder: Path, made: str) -> None:
    name = f"bob-{made}"
    secret = run(service_folder, "token", "create", name, "--grant", "*", "--expires", "1m").stdout.strip()
    with server.client(secret) as client:
        assert client.get("/v1/session").json()["user"] == name
        if made == "revoked":
            run(service_folder, "token", "revoke", name)
        else:
            path = service_folder / "state" / "tokens.json"
            document = json.loads(path.read_text())
            for spec in document["tokens"]:
                if spec["name"] == name:  # the others stay as they are
                    spec["expires"] = spec["created"]
            path.write_text(json.dumps(document))
        for method, where in (("POST", "/v1/sql"), ("GET", "/v1/tables"), ("GET", "/v1/queries"), ("GET", "/metrics")):
            answer = client.request(method, where)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def inside(deployment: Lake, folder: Path) -> list[str]:
    """What only the operator knows."""
    own = deployment.variables
    return [own["AWS_SECRET_ACCESS_KEY"], own["AWS_ENDPOINT_URL"], deployment.event_log, str(folder)]


# Nothing outside of the catalog is reached, and nothing of the inside leaves.


@pytest.mark.parametrize(
    "statement",
    [
        "select * from '/etc/passwd'",
        "select * from 'file:///etc/passwd'",
        "select * from '/etc/passwd.csv'",
        "select * from 's3://{bucket}/{object}'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('s3://{bucket}/{object}')",
        "select * from csv_scan('/etc/passwd')",
        "create external table t stored as csv location '/etc/passwd'",
        "create table t as select 1",
        "create view v as select 1",
        "copy (select 1) to '/tmp/dagfusion-evil.csv'",
        "copy (select 1) to 's3://{bucket}/evil.parquet' stored as parquet",
        "insert into " + ORGANIZATIONS + " select * from " + ORGANIZATIONS,
        "drop table " + ORGANIZATIONS,
        "set datafusion.execution.batch_size = 1",
        "explain copy (select 1) to '/tmp/dagfusion-evil.csv'",
        "explain analyze insert into " + ORGANIZATIONS + " select 1",
        "prepare p as select 1",
        "select 1; select 2",
        "begin",
    ],
)
def test_nothing_outside_of_the_catalog_is_reached(server: Server, filled: Lake, statement: str) -> None:
    before = filled.objects(EXTRACTS)
    with server.client() as client:
        for path in ("/v1/sql", "/v1/explain"):
            answer = sql(client, statement.format(bucket=filled.bucket, object=before[0]), path)
            assert answer.status_code == 400
            assert "root:" not in answer.text
    assert filled.objects(EXTRACTS) == before
    assert not Path("/tmp/dagfusion-evil.csv").exists()  # noqa: S108


@pytest.mark.parametrize(
    "statement",
    [
        "select input_file_name() from " + ORGANIZATIONS,
        "explain select * from " + ORGANIZATIONS,
        "explain verbose select * from " + ORGANIZATIONS + " where state = 'CA'",
        "explain analyze select * from " + ORGANIZATIONS + " where state = 'CA'",
        "explain format tree select * from " + ORGANIZATIONS,
        "select version()",
        "select current_setting('datafusion.runtime.temp_directory')",
        "select arrow_typeof(x) from " + ORGANIZATIONS,
        "select cast('x' as int) from " + ORGANIZATIONS,
        "select unnest(1)",
        "select * from " + ORGANIZATIONS + " where npi = (select npi from " + ORGANIZATIONS + ")",
        "select regexp_like('a', '(')",
        "select to_timestamp('never')",
        "select " + "(" * 400 + "1" + ")" * 400,
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select * from r",
    ],
)
def test_nothing_of_the_inside_leaves(server: Server, filled: Lake, service_folder: Path, statement: str) -> None:
    secrets = [*inside(filled, service_folder), "/site-packages/"]
    secrets += ["Traceback", "dagfusion-worker-", "/.cargo/", "postgresql://", str(Path(__file__).parents[2])]
    with server.client() as client:
        for path in ("/v1/sql", "/v1/explain"):
            said = sql(client, statement, path).text
            assert [secret for secret in secrets if secret in said] == []


def test_no_document_names_a_secret(server: Server, filled: Lake, service_folder: Path) -> None:
    secrets = [*inside(filled, service_folder), "postgresql"]
    paths = ("/v1/tables?tables=full", "/v1/session", "/openapi.json", "/readyz", "/healthz", "/metrics", "/v1/queries")
    with server.client() as client:
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200
            assert [secret for secret in secrets if secret in answer.text] == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Forwarded-For": "127.0.0.1"}, 401),
        ({"Authorization": "Bearer dft_wrong"}, 401),
    ],
)
def test_requests_of_strangers(server: Server, headers: dict[str, str], status: int) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", content=b'{"sql": "select 1"}', headers=headers)
    assert answer.status_code == status


def test_a_body_that_is_too_long(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", content=(b"x" * 65_536 for _ in range(100)))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_long")
        long = client.post("/v1/sql", json={"sql": f"select '{'x' * (1 << 20)}'"})
        assert (long.status_code, long.json()["code"]) == (413, "statement_too_long")


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x=y", "%0d%0aSet-Cookie:%20x=y", "\u0000", "..%2f..%2fetc"])
def test_no_header_comes_from_a_request(server: Server, name: str) -> None:
    with server.client() as client:
        answers_ = [
            sql(client, f'select 1 as "{name}"'),
            sql(client, f'select * from "{name}"."{name}"'),
            client.get(f"/v1/queries/{name.replace(chr(13), '').replace(chr(10), '').replace(chr(0), '')}"),
        ]
    for answer in answers_:
        assert "set-cookie" not in answer.headers
        assert answer.status_code in {200, 400, 404}
