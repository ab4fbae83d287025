"""However a query ends: cancelled, too slow, too large, its worker dead, its client gone. Others go on."""

import asyncio
import contextlib
import os
import signal
import time
from concurrent.futures import Future
from typing import Any

import psutil
import pyarrow as pa
import pytest

from dagfusion_client.documents.query_documents import QueryInfo, State
from dagfusion_client.errors import (
    ExecutionError,
    QueryCancelledError,
    QueryTimeoutError,
    ResourcesError,
    ResultTooLargeError,
    ServiceUnavailableError,
    StaleObjectError,
    TooBusyError,
    WorkerDiedError,
)
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_server.service import running_query
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import ANN, PublishedCatalogs, Serve, Served

BOB = Caller("bob", ALL, "http")
# Goes on for minutes after it was told to stop.
UNYIELDING = "SELECT sum(x * y) FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 1000000) b(y)"
# Cannot be interrupted at all while it is planned.
SLOW_TO_PLAN = f"SELECT {'+'.join(['1'] * 20_000)}"
ENDLESS_ROWS = "SELECT x, y FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 100000) b(y)"
SOON_S = 60.0  # on the busiest machine; what was not ended goes on for minutes


@pytest.fixture
def one(new_served: Serve) -> Served:
    """A service with one worker, and the spare."""
    return new_served(workers=1)


def begun(served: Served, sql: str, state: State = State.running, caller: Caller = ANN) -> "tuple[Future[Any], str]":
    """Start a query, and return when it is in a state."""
    future = served.start(sql, caller)
    served.wait_for(lambda: any(_is(info, sql, state) for info in served.queries(caller)))
    found = next(info for info in served.ask(lambda: served.queries(caller)) if _is(info, sql, state))
    return future, found.id


def _is(info: QueryInfo, sql: str, state: State) -> bool:
    return info.sql == sql and info.state is state


def cancelled(served: Served, future: "Future[Any]", query_id: str, caller: Caller = ANN) -> None:
    """Cancel a query, which goes on for minutes if that fails: its client knows, and the next statement is answered."""
    served.ask(lambda: served.service.cancel(query_id, caller))
    with pytest.raises(QueryCancelledError, match=f"cancelled by {caller.user}"):
        future.result(SOON_S)
    assert served.rows("SELECT 1 AS a", caller) == [{"a": 1}]
    assert served.service.query(query_id, caller).state is State.cancelled


def computes() -> bool:
    """Return True if a worker has half of a core for a moment."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie counts as none
            if "dagfusion_server.worker" in child.cmdline() and child.cpu_percent(0.1) > 50:
                return True
    return False


@pytest.mark.parametrize("sql", [UNYIELDING, SLOW_TO_PLAN])
def test_a_statement_is_cancelled_whatever_it_does(one: Served, sql: str) -> None:
    future, query_id = begun(one, sql)
    busiest(set(workers()))
    cancelled(one, future, query_id)


def test_nothing_of_a_cancelled_statement_goes_on(one: Served) -> None:
    future, query_id = begun(one, UNYIELDING)
    busiest(set(workers()))
    cancelled(one, future, query_id)
    one.wait_for(lambda: not computes())  # a worker that starts computes, too, but not for minutes


def test_a_waiting_query_is_cancelled(one: Served) -> None:
    blocker, blocker_id = begun(one, UNYIELDING)
    future, query_id = begun(one, "SELECT 2", State.queued)
    one.ask(lambda: one.service.cancel(query_id, ANN))
    with pytest.raises(QueryCancelledError):
        future.result(SOON_S)
    cancelled(one, blocker, blocker_id)


def test_a_query_whose_client_takes_nothing_is_cancelled_by_a_request(one: Served) -> None:
    async def begin() -> Any:
        return await one.stream(ENDLESS_ROWS)

    stream = one.loop.run(begin())
    one.wait_for(lambda: one.service.query(stream.id, ANN).state is State.streaming)
    one.ask(lambda: one.service.cancel(stream.id, ANN))
    assert one.rows("SELECT 1 AS a") == [{"a": 1}]

    async def rest() -> None:
        async for _ in stream:
            pass

    with pytest.raises(QueryCancelledError):
        one.loop.run(rest())


def test_a_client_that_leaves_cancels_its_query(one: Served) -> None:
    future, query_id = begun(one, UNYIELDING)
    future.cancel()
    one.wait_for(lambda: one.service.query(query_id, ANN).state is State.cancelled)
    assert one.rows("SELECT 1 AS a") == [{"a": 1}]

    async def take_one() -> str:
        stream = await one.stream(ENDLESS_ROWS)
        async for _ in stream:
            break
        await stream.close()
        await stream.close()
        return stream.id

    left = one.loop.run(take_one())
    assert one.service.query(left, ANN).state is State.cancelled
    assert one.rows("SELECT 1 AS a") == [{"a": 1}]


def test_what_is_over_stays_as_it_is(one: Served) -> None:
    one.rows("SELECT 1")
    query_id = one.latest().id
    assert one.ask(lambda: one.service.cancel(query_id, ANN)).state is State.finished


@pytest.mark.parametrize("sql", [UNYIELDING, SLOW_TO_PLAN])
def test_a_query_that_takes_too_long_is_ended(one: Served, sql: str) -> None:
    error = one.error(sql, timeout_s=0.3)
    assert isinstance(error, QueryTimeoutError)
    assert "0.3 s" in str(error)
    assert one.rows("SELECT 1 AS a") == [{"a": 1}]
    assert one.queries()[1].state is State.failed


def test_the_service_s_own_timeout_cannot_be_exceeded(new_served: Serve) -> None:
    served = new_served(workers=1, query_timeout_s=0.2)
    error = served.error(UNYIELDING, timeout_s=100)
    assert isinstance(error, QueryTimeoutError)
    assert "DAGFUSION_QUERY_TIMEOUT_S" in str(error)


def test_a_client_that_stalls_is_given_up(new_served: Serve) -> None:
    served = new_served(workers=1, client_stall_s=0.3)

    async def stall() -> None:
        stream = await served.stream(ENDLESS_ROWS)
        chunks = aiter(stream)
        await anext(chunks)
        while not served.service.query(stream.id, ANN).state.is_over:  # noqa: ASYNC110  # it is told by a state
            await asyncio.sleep(0.01)
        async for _ in chunks:
            pass

    with pytest.raises(QueryCancelledError, match="DAGFUSION_CLIENT_STALL_S"):
        served.loop.run(stall())
    assert served.rows("SELECT 1 AS a") == [{"a": 1}]


class Clock:
    """Stands in for the module `time`; only the test moves it."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_slow_client_is_not_a_stalled_one(new_served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is shorter than the limit, and all together are longer, however slow the machine is."""
    clock = Clock()
    monkeypatch.setattr(running_query, "time", clock)
    served = new_served(workers=1, client_stall_s=0.2)

    async def take_slowly() -> int:
        stream = await served.stream("SELECT repeat('x', 1000000) AS x FROM generate_series(1, 10)")
        async for _ in stream:
            clock.now += 0.15
            stream._watch_client()  # as its timer does
        assert clock.now > 0.2
        return stream.stats.rows

    assert served.loop.run(take_slowly()) == 10


def test_users_and_queues_have_their_limits(new_served: Serve) -> None:
    served = new_served(workers=2, user_queries=1, queue_length=2, user_queue_length=1, queue_timeout_s=30.0)
    first, first_id = begun(served, UNYIELDING)
    waiting, waiting_id = begun(served, "SELECT 2", State.queued)
    error = served.error("SELECT 3")
    assert isinstance(error, TooBusyError)
    assert "DAGFUSION_USER_QUEUE_LENGTH" in str(error)
    assert error.retry_after_s >= 1

    assert served.rows("SELECT 4 AS a", BOB) == [{"a": 4}], "the other worker is another user's"
    others = [begun(served, UNYIELDING, caller=BOB), begun(served, "SELECT 5", State.queued, BOB)]
    error = served.error("SELECT 6", Caller("carol", ALL, "http"))
    assert isinstance(error, TooBusyError)
    assert "DAGFUSION_QUEUE_LENGTH" in str(error)

    for future, query_id in ((waiting, waiting_id), (first, first_id), *reversed(others)):
        served.ask(lambda query_id=query_id: served.service.cancel(query_id, ANN))  # type: ignore[misc]
        with pytest.raises(QueryCancelledError):
            future.result(SOON_S)


def test_a_query_does_not_wait_for_ever(new_served: Serve) -> None:
    served = new_served(workers=1, queue_timeout_s=0.2)
    blocker, blocker_id = begun(served, UNYIELDING)
    error = served.error("SELECT 1", BOB)
    assert isinstance(error, TooBusyError)
    assert "DAGFUSION_QUEUE_TIMEOUT_S" in str(error)
    cancelled(served, blocker, blocker_id)


def test_results_have_their_limits(new_served: Serve) -> None:
    served = new_served(workers=1, result_limit_rows=1000, result_limit_bytes=100_000)
    assert len(served.rows("SELECT value FROM generate_series(1, 1000)")) == 1000
    error = served.error("SELECT value FROM generate_series(1, 1001)")
    assert isinstance(error, ResultTooLargeError)
    assert "DAGFUSION_RESULT_LIMIT_ROWS" in str(error)
    error = served.error("SELECT repeat('x', 1000) FROM generate_series(1, 200)")
    assert isinstance(error, ResultTooLargeError)
    assert "DAGFUSION_RESULT_LIMIT_BYTES" in str(error)
    assert len(served.rows("SELECT value FROM generate_series(1, 2000)", limit_rows=10)) == 10


def test_a_limit_met_in_the_middle_breaks_the_stream(new_served: Serve) -> None:
    served = new_served(workers=1, result_limit_bytes=20_000_000)

    async def read() -> bytes:
        received = b""
        stream = await served.stream("SELECT repeat('x', 1000) AS x FROM generate_series(1, 100000)")
        try:
            async for chunk in stream:
                received += chunk
        except ResultTooLargeError:
            return received
        raise AssertionError("it did not break")

    received = served.loop.run(read())
    assert 0 < len(received) <= 20_000_000
    assert not received.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00"), "no end, so that a client can tell"
    assert served.latest().state is State.failed


def test_a_broken_stream_stays_broken(one: Served) -> None:
    async def read_twice() -> list[str]:
        errors = []
        stream = await one.stream("SELECT 1 / (value - 500000) AS x FROM generate_series(1, 1000000)")
        for _ in range(2):
            try:
                async for _ in stream:
                    pass
            except ExecutionError as error:
                errors.append(str(error))
        return errors

    first, second = one.loop.run(read_twice())
    assert first == second


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 1500000000))",
        "SELECT array_agg(x) FROM generate_series(1, 200000000) a(x)",
        "SELECT count(*) FROM generate_series(1, 30000000) a(x) JOIN generate_series(1, 30000000) b(y) ON x = y",
    ],
)
def test_a_statement_that_wants_too_much_memory_is_ended(new_served: Serve, sql: str) -> None:
    served = new_served(workers=1, worker_memory_bytes=512 << 20)
    error = served.error(sql)
    assert isinstance(error, ResourcesError)
    assert "DAGFUSION_WORKER_MEMORY_BYTES" in str(error)
    assert served.rows("SELECT 1 AS a") == [{"a": 1}]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_takes_only_its_statement_along(new_served: Serve, number: signal.Signals) -> None:
    served = new_served(workers=2)
    served.wait_for(lambda: b"dagfusion_workers_live 3.0" in served.service.metrics())
    other, other_id = begun(served, UNYIELDING, caller=BOB)
    first = busiest(set(workers()))
    future, _ = begun(served, ENDLESS_ROWS, State.streaming)
    os.kill(busiest(set(workers()) - {first}), number)

    with pytest.raises(WorkerDiedError, match=f"while running \\({number.name}"):
        future.result(SOON_S)
    assert served.rows("SELECT 1 AS a") == [{"a": 1}]
    assert served.service.query(other_id, BOB).state is State.running
    cancelled(served, other, other_id, BOB)
    served.wait_for(lambda: len(workers()) == 3)


def test_workers_killed_while_idle_are_not_noticed(one: Served) -> None:
    for _ in range(3):
        one.wait_for(lambda: len(workers()) == 2)
        killed = set(workers())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        one.wait_for(lambda killed=killed: killed.isdisjoint(one.service._pool.pids))  # type: ignore[misc]
        assert one.rows("SELECT 1 AS a") == [{"a": 1}]
    assert one.service.ready() is None


def busiest(pids: set[int]) -> int:
    """The process that computes most."""

    def seconds() -> dict[int, float]:
        times = {pid: psutil.Process(pid).cpu_times() for pid in pids}
        return {pid: used.user + used.system for pid, used in times.items()}

    before = seconds()
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        time.sleep(0.05)
        used = {pid: after - before[pid] for pid, after in seconds().items()}
        first = max(pids, key=lambda pid: used[pid])
        if used[first] >= 0.2:
            return first
    raise AssertionError("no worker computes")


def workers() -> list[int]:
    """The process ids of all workers; one service at a time has any."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended just now
            if child.status() != psutil.STATUS_ZOMBIE and "dagfusion_server.worker" in child.cmdline():
                found.append(child.pid)
    return found


def test_an_object_that_was_replaced_is_read_again(new_served: Serve, tmp_path: Any) -> None:
    lake = Lake(tmp_path)
    path = lake.write(("a", "t"), pa.table({"x": [1, 2]}), folder="f")
    catalogs = PublishedCatalogs(tmp_path / "catalogs")
    catalogs.publish(lake.snapshot)
    served = new_served(catalogs, workers=1)
    assert served.rows("SELECT sum(x) AS x FROM local_a.t") == [{"x": 3}]

    path.unlink()
    assert isinstance(served.error("SELECT sum(x) AS x FROM local_a.t"), StaleObjectError)

    def materialize_again() -> None:
        if not path.exists():
            lake.write(("a", "t"), pa.table({"x": [10, 20]}), folder="f")
            catalogs.publish(lake.snapshot)

    catalogs.on_refresh = materialize_again
    assert served.rows("SELECT sum(x) AS x FROM local_a.t") == [{"x": 30}]
    lake.engine.close()


def test_closing_lets_queries_end_and_cancels_the_rest(new_served: Serve) -> None:
    served = new_served(workers=1)
    future, _ = begun(served, UNYIELDING)
    waiting, _ = begun(served, "SELECT 2", State.queued)
    served.loop.run(served.service.close())
    for query in (future, waiting):
        with pytest.raises(QueryCancelledError, match="stopping"):
            query.result(SOON_S)
    assert isinstance(served.error("SELECT 1"), ServiceUnavailableError)
    assert served.service.ready() is not None
    assert workers() == []
