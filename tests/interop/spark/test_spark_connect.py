"""The client of Spark Connect and the batches of its results, over a server in this process."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pyarrow as pa
import pytest

from dagfusion_client import secrets_manager
from dagfusion_client.errors import (
    QueryCancelledError,
    QueryError,
    RemoteEngineError,
    RemoteEngineUnavailableError,
    RemovedObjectError,
    SettingsError,
    StaleObjectError,
    StoreUnavailableError,
)
from dagfusion_contract.secret_reference import SecretValues
from dagfusion_interop.spark import SparkServer
from dagfusion_interop.spark.spark_batches import SparkBatches
from dagfusion_interop.spark.spark_connect import SparkAddress, SparkSession, SparkStatement
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.wire import children, message, uint
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.worker.messages import SparkRun
from tests.waiting import eventually

OPERATION = "00000000-0000-0000-0000-000000000001"
SCHEMA = pa.schema({"n": pa.int64()})
COMPLETE = message(14, b"")
Answers = Callable[[grpc.ServicerContext], Iterator[bytes]]


def batch(values: Sequence[int], rows: int | None = None) -> bytes:
    """The response with a batch of 32-bit integers, as a server sends it."""
    sink = pa.BufferOutputStream()
    made = pa.record_batch({"n": pa.array(values, pa.int32())})
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_batch(made)
    return message(2, uint(1, len(values) if rows is None else rows) + message(2, sink.getvalue().to_pybytes()))


class FakeSpark:
    """A server that answers each statement in one way, and remembers what it was sent."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.calls: list[tuple[str, bytes, dict[str, str]]] = []
        self.interrupts: list[bytes] = []  # the answers to them
        self.rest: list[Sequence[bytes]] = []  # the answers to clients that reattach
        self.ended: set[str] = set()  # sessions

    def handler(self, method: str) -> grpc.RpcMethodHandler:
        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._note(method, request, context)
            if children(request, 1)[0].decode() in self.ended:
                context.abort(grpc.StatusCode.INTERNAL, "[INVALID_HANDLE.SESSION_CLOSED] The handle is invalid.")
            if method == "Interrupt":
                return self.interrupts.pop(0) if self.interrupts else b""
            return b""

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._note(method, request, context)
            if method == "ExecutePlan":
                yield from self._answers(context)
            elif self.rest:
                yield from self.rest.pop(0)
            else:
                context.abort(grpc.StatusCode.INTERNAL, "invalid argument: operation not found: x")

        if method in ("ExecutePlan", "ReattachExecute"):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)

    def _note(self, method: str, request: bytes, context: Any) -> None:
        self.calls.append((method, request, dict(context.invocation_metadata())))

    def request(self, method: str) -> bytes:
        [request] = [request for name, request, _ in self.calls if name == method]
        return request


@contextmanager
def serving(answers: Answers, options: str = "") -> Iterator[tuple[FakeSpark, SparkStatement]]:
    """Run a server, and open a statement on it."""
    spark = FakeSpark(answers)
    names = ("Config", "ExecutePlan", "Interrupt", "ReattachExecute", "ReleaseExecute", "ReleaseSession")
    handlers = {name: spark.handler(name) for name in names}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("spark.connect.SparkConnectService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        session = SparkSession(f"sc://127.0.0.1:{port}/{options}", "s")
        statement = SparkStatement(session, OPERATION, "SELECT 1")
        yield spark, statement
        statement.close()
    finally:
        server.stop(None).wait()


def taken(batches: SparkBatches) -> list[Any]:
    found = []
    while (one := batches.next()) is not None:
        assert one.schema == SCHEMA
        found += one["n"].to_pylist()
    return found


def batches_of(statement: SparkStatement, check: Callable[[], float] = lambda: 0.5) -> SparkBatches:
    return SparkBatches(statement, SCHEMA, [], ["7-ab"], check)


@pytest.mark.parametrize(("text", "target"), [("sc://spark:7/;token=t", "spark:7"), ("http://hidden", None)])
def test_the_url_of_a_server_can_be_in_a_secret(monkeypatch: pytest.MonkeyPatch, text: str, target: str | None) -> None:
    class Client:
        def get_secret_value(self, **_: str) -> dict[str, str]:
            return {"SecretString": json.dumps({"url": text})}

    monkeypatch.setattr(secrets_manager, "SECRETS", SecretValues(lambda _: Client()))
    session = SparkSession("secretsmanager://prod/spark#url", "s")
    if target is not None:
        statement = SparkStatement(session, OPERATION, "SELECT 1")
        statement.close()
        assert statement._address.target == target
        return
    with pytest.raises(SettingsError, match="must be a URL such as sc://host:15002") as refused:
        SparkStatement(session, OPERATION, "SELECT 1")
    assert "hidden" not in str(refused.value)


def test_a_result_is_read_to_its_end() -> None:
    with serving(lambda _: iter([b"", batch([1, 2]), batch([]), batch([3]), COMPLETE]), ";user_id=ann") as (
        spark,
        statement,
    ):
        batches = batches_of(statement)
        assert taken(batches) == [1, 2, 3]
        assert batches.wait(0)
        assert batches.requests_s == 0.5
        assert [name for name, *_ in spark.calls] == ["Config", "ExecutePlan", "ReleaseExecute"]
        plan = children(spark.request("ExecutePlan"), 3)[0]
        assert children(children(children(plan, 1)[0], 10)[0], 1) == [b"SELECT 1"]
        assert children(children(spark.request("ExecutePlan"), 2)[0], 1) == [b"ann"]
        assert children(spark.request("ExecutePlan"), 6) == [OPERATION.encode()]


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ([batch([1]), batch([2])], RemoteEngineUnavailableError, "ended the result before its end"),
        ([], RemoteEngineUnavailableError, "ended the result before its end"),
        (
            [batch([1], rows=2), COMPLETE],
            RemoteEngineError,
            "1 rows, which is not the number in its header",
        ),
        ([message(2, message(2, b"junk")), COMPLETE], RemoteEngineError, "sent a malformed result"),
        ([b"\xff", COMPLETE], RemoteEngineError, "sent a malformed result"),
    ],
)
def test_what_is_no_whole_result_is_an_error(answer: list[bytes], kind: type[QueryError], text: str) -> None:
    with serving(lambda _: iter(answer)) as (_, statement), pytest.raises(kind, match=text):
        taken(batches_of(statement))


def test_a_result_goes_on_in_another_stream() -> None:
    """Spark ends a stream after two minutes, without an error and without the mark of the end."""
    with serving(lambda _: iter([])) as (spark, statement):
        spark.rest = [[], [batch([1]) + message(13, b"a"), batch([2]) + message(13, b"b")], [], [COMPLETE]]
        assert taken(batches_of(statement)) == [1, 2]
        asked = [request for name, request, _ in spark.calls if name == "ReattachExecute"]
        assert [children(request, 5) for request in asked] == [[], [], [b"b"], [b"b"]]
        assert {bytes(children(request, 3)[0]) for request in asked} == {OPERATION.encode()}
        assert [name for name, *_ in spark.calls][-1] == "ReleaseExecute"


def test_streams_without_an_end_are_no_result() -> None:
    with serving(lambda _: iter([batch([1]) + message(13, b"a")])) as (spark, statement):
        spark.rest = [[]] * 1000
        with pytest.raises(RemoteEngineUnavailableError, match="ended the result before its end"):
            taken(batches_of(statement))
        assert spark.rest


@pytest.mark.parametrize(
    ("rows", "reattached"),
    [
        (batch([1]) + message(13, b"a"), 1),  # then the server has no result any more
        (batch([1]), 0),  # the server would begin again, and the row would come twice
    ],
)
def test_a_result_that_cannot_go_on_is_asked_for_once_at_most(rows: bytes, reattached: int) -> None:
    with serving(lambda _: iter([rows])) as (spark, statement):
        with pytest.raises(RemoteEngineUnavailableError, match="ended the result before its end"):
            taken(batches_of(statement))
        assert [name for name, *_ in spark.calls].count("ReattachExecute") == reattached


def test_a_session_that_the_server_ended_is_replaced() -> None:
    with serving(lambda _: iter([batch([1]), COMPLETE])) as (spark, statement):
        spark.ended, spark.interrupts = {"s"}, [b"", message(2, OPERATION.encode())]
        assert not statement.interrupt()
        assert statement.interrupt()
        assert taken(batches_of(statement)) == [1]
        assert eventually(lambda: spark.calls[-1][0] == "ReleaseSession")
        sessions = [(name, children(request, 1)[0].decode()) for name, request, _ in spark.calls]
        names = ("Interrupt", "Interrupt", "Config", "ExecutePlan", "ReleaseExecute", "ReleaseSession")
        assert sessions == [("Interrupt", "s"), *((name, OPERATION) for name in names)]


def test_a_session_of_a_statement_that_fails_is_released() -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield batch([1])
        context.abort(grpc.StatusCode.INTERNAL, "no")

    with serving(fail) as (spark, statement):
        spark.ended = {"s"}
        with pytest.raises(RemoteEngineError):
            taken(batches_of(statement))
        assert eventually(lambda: spark.calls[-1][0] == "ReleaseSession")
        assert children(spark.request("ReleaseSession"), 1) == [OPERATION.encode()]


def test_too_few_task_slots_are_named() -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()
        context.abort(
            grpc.StatusCode.INTERNAL,
            "internal error: task region requires 700 worker task slots, but the configured maximum is 512 given a "
            "maximum of 2 workers with 256 task slots per worker",
        )

    with serving(fail) as (_, statement), pytest.raises(RemoteEngineError, match=r"needs 700 task slots .* has 512:"):
        taken(batches_of(statement, pytest.fail))  # no check: the server has read no object


def test_what_the_text_relies_on_is_configured() -> None:
    with serving(lambda _: iter([COMPLETE])) as (spark, statement):
        taken(batches_of(statement))
        pairs = children(children(children(spark.request("Config"), 3)[0], 1)[0], 1)
        sent = {bytes(children(pair, 1)[0]): bytes(children(pair, 2)[0]) for pair in pairs}
        assert sent[b"spark.sql.decimalOperations.allowPrecisionLoss"] == b"false"
        assert sent[b"spark.sql.session.timeZone"] == b"UTC"
        assert len(sent) == len(pairs) == 8


def test_a_server_that_is_not_there() -> None:
    statement = SparkStatement(SparkSession("sc://127.0.0.1:1", "s"), OPERATION, "SELECT 1")
    with pytest.raises(RemoteEngineUnavailableError, match="the Spark engine does not answer"):
        taken(batches_of(statement))


def test_no_row_is_the_last_if_the_objects_changed() -> None:
    def check() -> float:
        raise StaleObjectError("an object has changed")

    with serving(lambda _: iter([batch([1]), batch([2]), COMPLETE])) as (_, statement):
        batches = batches_of(statement, check)
        first = batches.next()
        assert first is not None
        assert first["n"].to_pylist() == [1]
        for _ in range(2):
            with pytest.raises(StaleObjectError):
                batches.next()


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (StaleObjectError("an object is gone"), StaleObjectError),
        (RemovedObjectError("the object was removed"), RemovedObjectError),
        (StoreUnavailableError("no store"), RemoteEngineError),
        (RuntimeError("the pool is closed"), RemoteEngineError),
    ],
)
def test_the_object_that_the_server_did_not_find_is_named(problem: Exception, kind: type[QueryError]) -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()
        context.abort(grpc.StatusCode.INTERNAL, "404 not found")

    def check() -> float:
        raise problem

    with serving(fail) as (_, statement), pytest.raises(QueryError) as raised:
        taken(batches_of(statement, check))
    assert type(raised.value) is kind


def test_a_cancelled_statement_ends_for_whoever_waits(caplog: pytest.LogCaptureFixture) -> None:
    with serving(waiting) as (_, statement):
        batches = batches_of(statement)
        assert taken_first(batches) == [1]
        assert not batches.wait(0.01)
        batches.cancel()
        with pytest.raises(QueryCancelledError):
            batches.next()
        assert not caplog.records
        batches.cancel()


def test_a_statement_is_interrupted_by_its_id() -> None:
    with serving(waiting, ";token=secret") as (spark, statement):
        statement._address = statement._address._replace(is_tls=False)
        statement._channel = statement._connect()
        assert not statement.interrupt()
        [(_, request, metadata)] = spark.calls
        assert children(request, 6) == [OPERATION.encode()]
        assert metadata["authorization"] == "Bearer secret"


def test_an_interrupt_is_repeated_until_the_server_knows_the_statement() -> None:
    named = message(1, b"s") + message(2, OPERATION.encode())

    async def interrupt(url: str, pauses_s: Sequence[float]) -> None:
        server = SparkServer(url=url, catalog="lake", session="s")
        tables = SparkTables(ServiceSettings(), server, {}, pauses_s)
        tables.interrupt(SparkRun(operation=OPERATION, pins={}))
        if min(pauses_s) == 0:
            await asyncio.wait(tables._interrupts)
        async with asyncio.timeout(60):  # else it would wait for the end of the pause
            await tables.close()

    for answers, expected in [([b"", b"", named], 3), ([named], 1), ([], 4)]:
        with serving(waiting) as (spark, statement):
            spark.interrupts = [*answers]
            asyncio.run(interrupt(f"sc://{statement._address.target}", [0.0, 0.01, 0.0, 0.0]))
            assert [name for name, *_ in spark.calls] == ["Interrupt"] * expected
    asyncio.run(interrupt("sc://127.0.0.1:1", [3600.0]))


def waiting(context: grpc.ServicerContext) -> Iterator[bytes]:
    """A result that does not come to its end."""
    over = threading.Event()
    context.add_callback(over.set)
    yield batch([1])
    yield batch([2])
    over.wait(60)


def taken_first(batches: SparkBatches) -> list[Any]:
    first = batches.next()
    assert first is not None
    found: list[Any] = first["n"].to_pylist()
    return found


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sc://spark", ("spark:15002", False, None, "dagfusion")),
        ("sc://spark:443/;use_ssl=true;user_id=ann", ("spark:443", True, None, "ann")),
        ("sc://[::1]:15002/;token=a%3Db", ("[::1]:15002", True, "a=b", "dagfusion")),
        ("sc://[::1]", ("[::1]:15002", False, None, "dagfusion")),
    ],
)
def test_an_address(url: str, address: tuple[Any, ...]) -> None:
    assert tuple(SparkAddress.read(url)) == address
