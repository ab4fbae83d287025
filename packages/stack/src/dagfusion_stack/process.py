"""Child processes, which are found again by their environment variables.

Every child carries two environment variables, the folder that it serves and the server that it is. Its own children
inherit them, so the process table has all that runs, and no pid file is needed. (PostgreSQL's backends overwrite
theirs, and end with their postmaster.)
"""

import contextlib
import pwd
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

from dagfusion_stack.errors import ServerError

MARK = "_DAGFUSION_STACK"
SERVICE = "_DAGFUSION_SERVICE"
POLL_INTERVAL_S = 0.02
LOG_TAIL_BYTES = 16_384
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# PostgreSQL, Go (glog, panic) and Python, each in its own words.
TELLING = re.compile(r"FATAL|PANIC|^F\d{4} |^panic:|[A-Za-z]*(Error|Exception)\b.*:|\berror:|could not |No space left")


@dataclass(frozen=True)
class Child:
    """A running server: its name, process and log, and how it is asked to stop."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    log_start: int = 0  # where the output of this process begins in the log

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready` says so.

        Raises:
            ServerError: The process ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} was not ready after {timeout_s:.0f} s; its log is {self.log}")
            time.sleep(POLL_INTERVAL_S)

    def check(self) -> None:
        """Do nothing while the process runs.

        Raises:
            ServerError: It has ended; the message has its exit code, a line of its log, and where the log is.
        """
        if self.process.poll() is not None:
            raise ServerError(self.ending())

    def ending(self) -> str:
        """Return how the process ended."""
        how = _ending(self.process.wait())
        return f"{self.name} ended ({how}): {telling_line(_tail(self.log, self.log_start))}; its log is {self.log}"

    def stop(self) -> None:
        """Request the process to stop, wait, and kill it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    mark: Path,
    log: Path,
    environ: Mapping[str, str],
    account: pwd.struct_passwd | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    cwd: Path | None = None,
) -> Child:
    """Start a server in a session of its own, with its output at the end of `log`. It leaves no core file.

    Args:
        name: The server, as people read it.
        command: Program and arguments.
        mark: The folder that the process serves; `marked` finds it by that.
        log: Where its output goes.
        environ: The environment, complete.
        account: The user to run as, when it is not this one.
        stop_signal: How the server is asked to stop.
        cwd: The working folder; the folder of the log when not given.
    """
    with log.open("ab") as output, _no_core_files():
        log_start = output.tell()
        process = subprocess.Popen(  # noqa: S603  # the commands are ours
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environ, MARK: str(mark), SERVICE: name},
            cwd=cwd or log.parent,
            start_new_session=True,
            **identity(account),
        )
    return Child(name, process, log, stop_signal, log_start=log_start)


@contextlib.contextmanager
def _no_core_files() -> Iterator[None]:
    """Start processes that leave no core file, because it would hold passwords.

    Linux ignores a limit of 0 where it pipes core files to a program, but not a limit of 1 byte.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


class Identity(TypedDict):
    """The arguments by which `subprocess` runs a program as another user."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def identity(account: pwd.struct_passwd | None) -> Identity:
    """Return the arguments that make `subprocess` run a program as `account`, or as this user when there is none."""
    if account is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def marked(mark: Path) -> dict[psutil.Process, str]:
    """Find every process that serves the folder `mark`, with its server; never this process or one above it."""
    this = psutil.Process()
    above = {this.pid, *(parent.pid for parent in this.parents())}
    found = {}
    for process in psutil.process_iter():
        if process.pid in above:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            environ = process.environ()
            if environ.get(MARK) == str(mark):
                found[process] = environ.get(SERVICE, "")
    return found


def end(processes: Iterable[psutil.Process], stop_signal: signal.Signals, *, timeout_s: float) -> None:
    """Request processes to stop, wait, and kill those that do not.

    Raises:
        ServerError: One belongs to another user.
    """
    processes = list(processes)
    _send(processes, stop_signal)
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    _send(alive, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=timeout_s)


def telling_line(lines: Iterable[str]) -> str:
    """Return the last line that looks like an error, else the last one.

    >>> telling_line(["starting", "FATAL:  no space", "stopped"])
    'FATAL:  no space'
    """
    texts = [line.strip() for line in lines if line.strip()]
    return next((line for line in reversed(texts) if TELLING.search(line)), texts[-1] if texts else "no output")


def _tail(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - LOG_TAIL_BYTES))
            return COLOUR.sub("", file.read().decode(errors="replace")).splitlines()
    except OSError as error:
        return [f"no log ({error.strerror})"]


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied as error:
            raise ServerError(
                f"process {process.pid} of this stack belongs to another user: run the command as that user"
            ) from error


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
