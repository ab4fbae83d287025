"""The query service as its clients meet it: a server of its own, and what is measured from outside of it."""

import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psutil
import pyarrow as pa
from pyarrow import flight

from dagfusion_client.commands_and_tickets import packed
from dagfusion_stack import binaries, dagster, ports, process
from dagfusion_stack.home import Home
from dagfusion_stack.supervisor import child_environ

READY_TIMEOUT_S = 300.0  # only a service that hangs takes this long
BUFFER_BYTES = 1 << 20
NO_RESULTS = {"DAGFUSION_RESULT_CACHE_DIR": "none"}  # each statement runs: a kept result would hide the engine's time
_DAGSTER = (dagster.CODE_LOCATION, dagster.WEBSERVER, dagster.DAEMON)
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Server:
    """A running service."""

    http_port: int
    flight_port: int
    process: psutil.Process

    @property
    def http(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.http_port}"

    @property
    def flight(self) -> str:
        return f"grpc://{ports.LOOPBACK}:{self.flight_port}"

    def rss_mb(self) -> float:
        """Memory of the parent, without its workers."""
        return float(self.process.memory_info().rss / MEBIBYTE)


@contextlib.contextmanager
def serving(variables: Mapping[str, str], folder: Path, settings: Mapping[str, str] = NO_RESULTS) -> Iterator[Server]:
    """Run `dagfusion serve` over a lake, on ports of its own."""
    http_port, flight_port = ports.free_ports(2)
    command = [sys.executable, str(binaries.script("dagfusion-query", "dagfusion")), "serve"]
    addresses = [
        f"--{door}-address={ports.LOOPBACK}:{port}" for door, port in (("http", http_port), ("flight", flight_port))
    ]
    environ = {**variables, "DAGFUSION_STATE_DIR": str(folder / "state"), **settings}
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen([*command, *addresses], env=environ, stdout=log, stderr=log)  # noqa: S603
    try:
        _wait_ready(http_port, server)
        yield Server(http_port, flight_port, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait(120)


@contextlib.contextmanager
def immediate_answers(rows: pa.Table, folder: Path) -> Iterator[str]:
    """Run a Flight SQL server that answers each statement at once with these rows, and yield its URL."""
    file = folder / "rows.arrow"
    with pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows)
    server = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
        [sys.executable, "-m", "benchmarks.immediate_answers", str(file)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    with server:
        try:
            assert server.stdout is not None
            yield f"grpc://{ports.LOOPBACK}:{int(server.stdout.readline())}"
        finally:
            server.kill()


@contextlib.contextmanager
def bare_door(variables: Mapping[str, str]) -> Iterator[int]:
    """Run `bare_door` over a lake, and yield its port."""
    server = subprocess.Popen(  # this interpreter, and a module of ours
        [sys.executable, "-m", "benchmarks.bare_door"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **variables},
    )
    with server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def call_as_adbc_does(client: flight.FlightClient) -> pa.Table:
    """Make the four calls of ADBC for one statement, with pyarrow's client, to a server that looks at none of them."""
    list(client.do_action(flight.Action("CreatePreparedStatement", b"")))
    command = packed("CommandPreparedStatementQuery", prepared_statement_handle=b"1")
    [endpoint] = client.get_flight_info(flight.FlightDescriptor.for_command(command)).endpoints
    rows = client.do_get(endpoint.ticket).read_all()
    list(client.do_action(flight.Action("ClosePreparedStatement", b"")))
    return rows


@contextlib.contextmanager
def beside_dagster(home: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run Dagster's code location, web interface and daemon over a lake, as `dagfusion up` does beside a service."""
    place, environ = Home(home), child_environ(os.environ, variables)
    (port,) = ports.free_ports(1)
    children: list[process.Child] = []
    try:
        children.append(code := dagster.start_code_location(place, environ))
        code.wait_ready(lambda: dagster.code_location_answers(place), timeout_s=READY_TIMEOUT_S)
        children.append(webserver := dagster.start_webserver(place, port, environ))
        children.append(daemon := dagster.start_daemon(place, environ))
        webserver.wait_ready(lambda: dagster.webserver_answers(port), timeout_s=READY_TIMEOUT_S)
        daemon.wait_ready(lambda: dagster.daemon_answers(port), timeout_s=READY_TIMEOUT_S)
        yield
    finally:
        started = {one for one, name in process.marked(place.path).items() if name in _DAGSTER}
        process.end(started, signal.SIGKILL, timeout_s=READY_TIMEOUT_S)
        for child in children:
            child.process.wait()


def _wait_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"http://{ports.LOOPBACK}:{port}/readyz", timeout=5).close()
            return
        assert server.poll() is None, "the service ended"
        assert time.monotonic() < deadline, "the service was not ready in time"
        time.sleep(0.05)


@dataclass(frozen=True)
class Answer:
    """What one request gave."""

    status: int
    retry_after: str | None
    size_bytes: int


def ask(connection: http.client.HTTPConnection, sql: str, form: str = "arrow") -> Answer:
    """Run a statement and read its answer to the end, without looking at it."""
    body = json.dumps({"sql": sql, "format": form})
    connection.request("POST", "/v1/sql", body, {"Content-Type": "application/json"})
    return _answer(connection)


def ask_door(connection: http.client.HTTPConnection) -> Answer:
    """Ask for the caller's name and rights, which the service answers without a worker."""
    connection.request("GET", "/v1/session")
    return _answer(connection)


def _answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    buffer, size = bytearray(BUFFER_BYTES), 0
    while read := response.readinto(buffer):
        size += read
    return Answer(response.status, response.headers.get("Retry-After"), size)


def rate_mb_s(transfer: Callable[[], int], times: int = 3) -> float:
    """Return the best rate of a transfer that returns how many bytes it was, in megabytes a second."""
    best = 0.0
    for _ in range(times):
        started = time.perf_counter()
        size = transfer()
        best = max(best, size / 1e6 / (time.perf_counter() - started))
    return best


def in_turns(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each function in seconds, in turns, so that other work slows all alike.

    Each turn has an order of its own: a function is slower after one that has left caches cold.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        for name in random.Random(turn).sample([*functions], len(functions)):  # noqa: S311  # no secret
            function = functions[name]
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(measured) for name, measured in times.items()}


def processor_time(
    functions: Mapping[str, Callable[[], object]], server: Server, rounds: int
) -> dict[str, dict[str, float]]:
    """Return the processor time of a call of each function, in seconds, by process: the client's, the service's, ..."""
    processes = {"client": [psutil.Process()], "service": [server.process], "workers": server.process.children()}
    found = dict[str, dict[str, float]]()
    for name, function in functions.items():
        before = {process: _seconds(those) for process, those in processes.items()}
        for _ in range(rounds):
            function()
        found[name] = {process: (_seconds(those) - before[process]) / rounds for process, those in processes.items()}
    return found


def _seconds(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


class Soak(TypedDict):
    """What many clients met at once."""

    clients: int
    seconds: float
    answers: dict[str, int]
    refused_without_retry: int
    wrong_sizes: int
    p50_ms: float
    p99_ms: float
    rss_first_mb: float
    rss_peak_mb: float


@dataclass
class _Tally:
    """What the clients of a soak have counted; one a client, so that nobody waits for a lock."""

    statuses: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    refused_without_retry: int = 0


def soak(server: Server, statements: Sequence[str], clients: int, seconds: float) -> Soak:
    """Let many clients ask at once for a while: each statement in turn, again as soon as it is answered."""
    tallies = [_Tally() for _ in range(clients)]
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_client, args=(server, statements[number % len(statements)], tally, end))
        for number, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    rss = []
    while any(thread.is_alive() for thread in threads):
        rss.append(server.rss_mb())
        time.sleep(1)
    for thread in threads:
        thread.join()
    times = sorted(one for tally in tallies for one in tally.seconds)
    answered = sum((tally.statuses for tally in tallies), Counter[int]())
    return Soak(
        clients=clients,
        seconds=seconds,
        answers={str(status): count for status, count in sorted(answered.items())},
        refused_without_retry=sum(tally.refused_without_retry for tally in tallies),
        wrong_sizes=sum(len(tally.sizes) > 1 for tally in tallies),
        p50_ms=times[len(times) // 2] * 1000,
        p99_ms=times[len(times) * 99 // 100] * 1000,
        rss_first_mb=rss[0],
        rss_peak_mb=max(rss),
    )


def _client(server: Server, statement: str, tally: _Tally, end: float) -> None:
    connection = http.client.HTTPConnection(ports.LOOPBACK, server.http_port, timeout=60)
    while time.monotonic() < end:
        started = time.perf_counter()
        answer = ask(connection, statement, "csv")
        tally.statuses[answer.status] += 1
        if answer.status == http.client.OK:
            tally.seconds.append(time.perf_counter() - started)
            tally.sizes[answer.size_bytes] += 1
        elif answer.status == http.client.TOO_MANY_REQUESTS:
            tally.refused_without_retry += answer.retry_after is None
            time.sleep(min(float(answer.retry_after or 1), 5.0))
    connection.close()
