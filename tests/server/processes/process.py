"""`dagfusion serve` as a process of its own, asked from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

READY = re.compile(r"console and HTTP  (\S+)\nArrow Flight SQL  (\S+)\n(.*: \d+ tables?|.*no tables yet)", re.DOTALL)
UNREAD = "is being read for the first time"
STOP_S = 30.0
START_S = 300.0  # a process that hangs is told from one that has little of the machine


@dataclass
class Server:
    """A running service.

    Attributes:
        url: Of HTTP.
        flight_url: Of Flight SQL.
        log: The file that stderr goes to.
        said: The file that stdout goes to.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    flight_url: str
    log: Path
    said: Path

    def workers(self) -> list[psutil.Process]:
        """The processes that run statements."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "dagfusion_server.worker" in " ".join(cmdline(child))]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and wait for that."""
        self.process.send_signal(number)
        self.process.wait(STOP_S)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)


def cmdline(process: psutil.Process) -> Sequence[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from dagfusion_cli.main import main; main()", *arguments]


def environ(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The process's variables: those of this one, a state folder and a folder for temporary files, and others."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    given = {"DAGFUSION_STATE_DIR": str(folder / "state"), "TMPDIR": str(temporary), "DAGFUSION_WORKERS": "2"}
    return {**os.environ, **given, **variables}


def run(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603  # our own command
        command(*arguments),
        cwd=folder,
        env=environ(folder, variables or {}),
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=START_S,
        check=False,
    )


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a command."""
    return subprocess.Popen(  # noqa: S603  # likewise
        command(*arguments),
        cwd=folder,
        env=environ(folder, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def served(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a service on free ports, and end it."""
    said, log = folder / "serve.out", folder / "serve.log"
    addresses = ["--http-address", "127.0.0.1:0", "--flight-address", "127.0.0.1:0"]
    with said.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603  # likewise
            command("serve", *addresses, *arguments),
            cwd=folder,
            env=environ(folder, variables or {}),
            stdout=out,
            stderr=err,
        )
    try:
        http, flight = _ready(process, said, log)
        _wait_for_catalogs(http, said)
        yield Server(process, http, flight, log, said)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: "subprocess.Popen[bytes]", said: Path, log: Path) -> tuple[str, str]:
    deadline = time.monotonic() + START_S
    while (match := READY.search(said.read_text())) is None:
        assert process.poll() is None, f"it ended: {log.read_text()}"
        assert time.monotonic() < deadline, f"it is not ready: {said.read_text()} {log.read_text()}"
        time.sleep(0.02)
    return match[1], match[2]


def _wait_for_catalogs(http: str, said: Path) -> None:
    """Wait for environments whose first reading takes longer than the service waits before it listens."""
    deadline = time.monotonic() + START_S
    while UNREAD in said.read_text() and UNREAD in _tables(http):
        assert time.monotonic() < deadline, f"environments are still not read: {said.read_text()}"
        time.sleep(0.1)


def _tables(http: str) -> str:
    return httpx.get(f"{http}/v1/tables", trust_env=False, timeout=60, verify=False).text  # noqa: S501  # loopback
