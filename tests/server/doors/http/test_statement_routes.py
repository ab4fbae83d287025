"""POST /v1/sql and /v1/explain: requests, results and errors."""

import gzip
import json
import re

import httpx
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import (
    ExecutionError,
    QueryError,
    ResourcesError,
    ResultTooLargeError,
    SqlSyntaxError,
    StatementTooLongError,
    TooBusyError,
    UnknownTableError,
)
from dagfusion_client.formats import Format
from dagfusion_query.access.authentication import Tokens
from tests.server.fake_service import FakeService, arrow, stream_of
from tests.tiers import examples
from tests.waiting import eventually

ONE = {"sql": "SELECT 1"}


def test_a_short_result_comes_in_one_piece_with_its_stats(client: httpx.Client, service: FakeService) -> None:
    answer = client.post("/v1/sql", json=ONE)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == Format.arrow.media_type
    assert answer.headers["dagfusion-query-id"] == "q0"
    assert json.loads(answer.headers["dagfusion-stats"])["generations"] == {"uat": 7}
    assert "scans" not in json.loads(answer.headers["dagfusion-stats"])
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert pa.ipc.open_stream(answer.content).read_all()["n"].to_pylist() == [0]
    assert service.streams[0].closed.wait(20)


def test_a_long_result_is_relayed_byte_by_byte(client: httpx.Client, service: FakeService) -> None:
    whole = arrow(100_000)
    service.pieces = [*(whole[at : at + 65_536] for at in range(0, len(whole), 65_536)), 0.05]

    answer = client.post("/v1/sql", json=ONE)

    assert answer.content == whole
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "dagfusion-stats" not in answer.headers


def test_the_first_bytes_do_not_wait_for_the_next(client: httpx.Client, service: FakeService) -> None:
    service.pieces = [b"first", 300.0, b"second"]

    with client.stream("POST", "/v1/sql", json=ONE) as answer:
        assert next(answer.iter_raw()) == b"first"


def test_an_empty_result_is_an_empty_body(client: httpx.Client, service: FakeService) -> None:
    service.pieces = []

    answer = client.post("/v1/sql", json={**ONE, "format": "jsonl"})

    assert (answer.status_code, answer.content) == (200, b"")


def test_everything_that_was_asked_reaches_the_service(client: httpx.Client, service: FakeService) -> None:
    client.post(
        "/v1/sql", json={"sql": "SELECT $1", "params": ["CA"], "format": "csv", "timeout_s": 1.5, "limit_rows": 10}
    )

    query, caller = service.asked[0]
    assert (query.sql, query.format, query.timeout_s, query.limit_rows) == ("SELECT $1", Format.csv, 1.5, 10)
    assert query.params == pa.record_batch({"1": ["CA"]})
    assert (caller.user, caller.door) == ("anonymous", "http")


def test_the_console_is_a_door_of_its_own(client: httpx.Client, service: FakeService) -> None:
    client.post("/v1/sql", json=ONE, headers={"DagFusion-Door": "console"})
    client.post("/v1/sql", json=ONE, headers={"DagFusion-Door": "flight"})

    assert [caller.door for _, caller in service.asked] == ["console", "http"]


def test_a_statement_needs_no_content_type(client: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert client.post("/v1/sql", content=b'{"sql": "SELECT 1"}', headers=form).status_code == 200


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", Format.arrow),
        ("application/json", Format.json),
        ("text/csv;q=0.5, application/vnd.apache.parquet", Format.parquet),
        ("application/x-ndjson", Format.jsonl),
        ("application/json-lines", Format.jsonl),
        ("text/*", Format.csv),
        ("text/html, */*;q=0.1", Format.arrow),
        ("application/json;q=0, text/csv;q=0.1", Format.csv),
    ],
)
def test_accept_chooses_the_format(client: httpx.Client, service: FakeService, accept: str, form: Format) -> None:
    client.post("/v1/sql", json=ONE, headers={"Accept": accept})

    assert service.asked[0][0].format is form


def test_the_body_chooses_before_accept(client: httpx.Client, service: FakeService) -> None:
    client.post("/v1/sql", json={**ONE, "format": "csv"}, headers={"Accept": "application/json"})

    assert service.asked[0][0].format is Format.csv


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "it is empty"),
        (b"{", "it ends after 1 bytes, before the JSON does"),
        (b'{"sql": "SELEC', "it ends after 14 bytes, before the JSON does"),
        (b'{"sql": "SELECT 1"', "it ends after 18 bytes, before the JSON does"),
        (b'{"sql": "SELECT 1"}{"sql"', "the JSON ends after 19 bytes, and the body has 25"),
        (b'{"sql": "SELECT 1"}\0\0', "its byte 19 of 21 is zero"),
        (b'{"sql": "SELECT\0\0\0\0', "its byte 15 of 19 is zero"),
        (b"\0" * 30, "its byte 0 of 30 is zero"),
        (b'{"sql": "SELECT \xff"}', "it is not UTF-8 at byte 16 of 19"),
        ('{"sql": "SELECT \'é\'"}'.encode("latin-1"), "it is not UTF-8 at byte"),
        ('{"sql": "SELECT 1"}'.encode("utf-16-le"), "its byte 1 of 38 is zero"),
        (b"SELECT 1", "Expecting value"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[]", "must be an object"),
        (b"{}", "must have a statement"),
        (b'{"sql": 1}', "sql must be a text"),
        (b'{"sql": "SELECT 1", "statement": 1, "x": 2}', 'unknown fields ["statement", "x"]'),
        (b'{"sql": "SELECT 1", "timeout_s": 0}', "timeout_s must be a positive number"),
        (b'{"sql": "SELECT 1", "timeout_s": true}', "timeout_s must be a positive number"),
        (b'{"sql": "SELECT 1", "timeout_s": NaN}', "NaN is not JSON"),
        (b'{"sql": "SELECT 1", "timeout_s": 1e999}', "timeout_s must be a positive number"),
        (b'{"sql": "SELECT 1", "limit_rows": -1}', "limit_rows must be a whole number"),
        (b'{"sql": "SELECT 1", "limit_rows": 1.5}', "limit_rows must be a whole number"),
        (b'{"sql": "SELECT 1", "format": "xml"}', "format must be one of arrow, json, jsonl, csv, parquet"),
        (b'{"sql": "SELECT 1", "format": ["csv"]}', "format must be one of"),
    ],
)
def test_a_request_is_read_strictly(client: httpx.Client, service: FakeService, body: bytes, said: str) -> None:
    # One that is nested deeply is longer than a statement may be, and not read at all.
    answer = client.post("/v1/sql", content=body[:3000])

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "bad_request"
    assert said in answer.json()["detail"]
    assert service.asked == []


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "x-gzip, identity"])
@pytest.mark.parametrize("path", ["/v1/sql", "/v1/explain"])
def test_a_compressed_body_is_refused(client: httpx.Client, service: FakeService, path: str, coding: str) -> None:
    body = gzip.compress(b'{"sql": "SELECT 1"}')

    for headers in ({"Content-Encoding": coding}, {}):
        answer = client.post(path, content=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding")
        assert "send it uncompressed" in answer.json()["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    assert service.asked == []


@pytest.mark.parametrize("coding", ["identity", "", "Identity ,identity"])
def test_the_identity_coding_is_none(client: httpx.Client, coding: str) -> None:
    assert client.post("/v1/sql", json=ONE, headers={"Content-Encoding": coding}).status_code == 200


@given(data=st.data())
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_body_is_not_blamed_on_the_statement(
    client: httpx.Client, service: FakeService, data: st.DataObject
) -> None:
    """Cut off, zeroed at the end, or with more behind it."""
    whole = json.dumps({"sql": data.draw(st.text("abc 'é\"", min_size=1, max_size=50)) + "x"}).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    zeroed, cut, longer = whole[:at] + bytes(len(whole) - at), whole[:at], whole + data.draw(st.binary(min_size=1))

    for body in (zeroed, cut, longer if longer.strip() != whole else whole + b"x"):
        answer = client.post("/v1/sql", content=body)

        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert "the body must be JSON" in answer.json()["detail"]
    assert service.asked == []


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b'{"sql": "SELECT\\n\\u0000"}', "sql_syntax", "line 2, column 1: a statement must be Unicode"),
        (b'{"sql": "\\ud800"}', "sql_syntax", "got half of a surrogate pair"),
        (b'{"sql": "SELECT $1", "params": [{"\\ud800": 1}]}', "parameter", "got the fields ?"),
        (
            b'{"sql": "SELECT $1", "params": [' + b"1," * 4096 + b"1]}",
            "parameter",
            "at most 4,096 parameters, got 4,097",
        ),
        (b'{"sql": "SELECT $1", "params": [' + b"9" * 5000 + b"]}", "bad_request", "a number has too many digits"),
    ],
)
def test_what_cannot_be_a_statement_or_its_parameters_is_refused(
    client: httpx.Client, body: bytes, code: str, said: str
) -> None:
    answer = client.post("/v1/sql", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert said in answer.json()["detail"]


def test_an_accept_that_nothing_fits(client: httpx.Client) -> None:
    answer = client.post("/v1/sql", json=ONE, headers={"Accept": "image/png"})

    assert answer.status_code == 400
    assert "application/vnd.apache.arrow.stream, application/json" in answer.json()["detail"]


def test_a_parameter_that_cannot_be_read_is_named(client: httpx.Client) -> None:
    answer = client.post("/v1/sql", json={"sql": "SELECT $b", "params": {"a": 1, "b": {"type": "int8", "value": 300}}})

    assert (answer.status_code, answer.json()["code"]) == (400, "parameter")
    assert answer.json()["detail"] == "parameter $b must be int8, got '300'"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SqlSyntaxError("syntax error", 3, 7), 400),
        (UnknownTableError("there is no table x"), 400),
        (StatementTooLongError("too long"), 413),
        (ExecutionError("divide by zero"), 422),
        (ResultTooLargeError("too large"), 422),
        (ResourcesError("no memory"), 507),
        (TooBusyError("busy", 2.5), 429),
    ],
)
@pytest.mark.parametrize("path", ["/v1/sql", "/v1/explain"])
def test_what_goes_wrong_before_the_first_row_is_a_problem(
    client: httpx.Client, service: FakeService, error: QueryError, status: int, path: str
) -> None:
    service.error = error

    answer = client.post(path, json=ONE)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"], problem["detail"]) == (status, error.code, str(error))
    assert problem.items() >= error.details().items()
    assert answer.headers.get("retry-after") == ("3" if isinstance(error, TooBusyError) else None)


def test_what_goes_wrong_with_the_first_rows_is_a_problem_too(client: httpx.Client, service: FakeService) -> None:
    service.pieces = [arrow(1), ExecutionError("divide by zero")]

    answer = client.post("/v1/sql", json=ONE)

    assert answer.status_code == 422
    assert answer.json()["query_id"] == "q0"
    assert service.streams[0].closed.wait(20)


@pytest.mark.parametrize("error", [ExecutionError("divide by zero"), RuntimeError("secret")])
def test_a_result_that_breaks_later_has_no_end(client: httpx.Client, service: FakeService, error: Exception) -> None:
    service.pieces = [b"first", 0.1, error]

    with (
        client.stream("POST", "/v1/sql", json=ONE) as answer,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        list(answer.iter_raw())

    assert answer.status_code == 200
    assert service.streams[0].closed.wait(20)


@pytest.mark.parametrize("error", [RuntimeError("/secret/path"), QueryError("the service failed")])
def test_an_unexpected_error_is_answered_by_its_number(
    client: httpx.Client, service: FakeService, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    service.error = error

    answer = client.post("/v1/sql", json=ONE)

    assert answer.status_code == 500
    if not isinstance(error, QueryError):
        assert "secret" not in answer.text
        assert answer.json()["code"] == "internal"
        (reference,) = re.findall(r"internal error (\w+):", answer.json()["detail"])
        assert reference in caplog.text
        assert "/secret/path" in caplog.text
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_explain_answers_with_its_document(client: httpx.Client, service: FakeService) -> None:
    answer = client.post("/v1/explain", json={"sql": "SELECT 1", "params": {"a": None}})

    assert answer.json()["path"] == "splice"
    assert service.asked[0][0].params == pa.record_batch({"a": pa.nulls(1)})
    assert client.post("/v1/explain", json={**ONE, "format": "csv"}).status_code == 400


def test_compression_is_for_those_who_ask_from_afar(client: httpx.Client, service: FakeService, tokens: Tokens) -> None:
    service.pieces = [arrow(1000), 0.05, b"x" * 1000]
    afar = {"Authorization": f"Bearer {tokens.create('ann', ['*'])}", "X-Forwarded-For": "10.0.0.1"}

    def ask(body: object, **headers: str) -> httpx.Response:
        with client.stream("POST", "/v1/sql", json=body, headers={**afar, **headers}) as answer:
            answer.stream = httpx.ByteStream(b"".join(answer.iter_raw()))
            return answer

    compressed = ask(ONE, **{"Accept-Encoding": "gzip, zstd"})
    near = client.post("/v1/sql", json=ONE, headers={"Authorization": afar["Authorization"], "Accept-Encoding": "zstd"})

    assert compressed.headers["content-encoding"] == "zstd"
    raw = pa.CompressedInputStream(pa.BufferReader(b"".join(compressed.stream)), "zstd").read()  # type: ignore[arg-type]
    assert raw == near.content == arrow(1000) + b"x" * 1000
    assert "content-encoding" not in near.headers
    assert "content-encoding" not in ask(ONE, **{"Accept-Encoding": "gzip, zstd;q=0"}).headers
    assert "content-encoding" not in ask({**ONE, "format": "parquet"}, **{"Accept-Encoding": "zstd"}).headers


def test_a_short_result_is_compressed_whole(client: httpx.Client, tokens: Tokens) -> None:
    headers = {"Authorization": f"Bearer {tokens.create('ann', ['*'])}", "Via": "proxy", "Accept-Encoding": "zstd"}

    with client.stream("POST", "/v1/sql", json=ONE, headers=headers) as answer:
        body = b"".join(answer.iter_raw())

    assert pa.CompressedInputStream(pa.BufferReader(body), "zstd").read() == arrow(1)
    assert int(answer.headers["content-length"]) == len(body)


def test_connections_are_used_again(client: httpx.Client, service: FakeService) -> None:
    for _ in range(3):
        assert client.post("/v1/sql", json=ONE).status_code == 200
        assert client.post("/v1/sql", content=b"{").status_code == 400

    assert len(service.streams) == 3
    assert all(stream.closed.wait(20) for stream in service.streams)


@pytest.mark.usefixtures("heavy")
def test_a_stream_of_a_million_rows_is_whole(client: httpx.Client, service: FakeService) -> None:
    whole = stream_of(pa.table({"n": range(1_000_000)}))
    service.pieces = [whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20)]

    assert client.post("/v1/sql", json=ONE).content == whole
    assert eventually(service.streams[0].closed.is_set)
