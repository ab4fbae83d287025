"""The state folder: its paths, its lock, and the settings that it gives to other programs."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dagfusion_contract.local_stack import ENV_FILE
from dagfusion_stack.errors import AlreadyRunningError, HomeError

FORMAT = 1
LOCK_PATIENCE_S = 1.0
SUPERVISOR_LOG = "supervisor.log"


@dataclass(frozen=True)
class ServerState:
    """One server as its supervisor started it."""

    name: str
    pid: int
    log: str
    url: str | None = None
    restarts: int = 0
    last_end: str | None = None


@dataclass(frozen=True)
class Holder:
    """The process that holds a state folder: its command (`up`, `demo`, `down`), and what it runs."""

    command: str
    pid: int
    created: float
    ready: bool = False
    services: Sequence[ServerState] = ()


@dataclass(frozen=True)
class Home:
    """The state folder of one stack, an absolute path."""

    path: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data."""
        return self.path / "postgres"

    @property
    def s3(self) -> Path:
        """The S3 server's objects."""
        return self.path / "s3"

    @property
    def dagster(self) -> Path:
        """The folder that DAGSTER_HOME names."""
        return self.path / "dagster"

    @property
    def service(self) -> Path:
        """The query service's: catalog snapshots and access tokens."""
        return self.path / "service"

    @property
    def logs(self) -> Path:
        """One log for each server, which its restarts share, and the log of the stack's last start as `.1`."""
        return self.path / "logs"

    @property
    def env_file(self) -> Path:
        """The settings by which others find the stack: KEY=value lines, readable by the owner only."""
        return self.path / ENV_FILE

    @property
    def _format_file(self) -> Path:
        return self.path / "format"

    @property
    def _state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def _ports_file(self) -> Path:
        return self.path / "ports.env"

    @property
    def _error_file(self) -> Path:
        return self.path / "error"

    @property
    def _lock_file(self) -> Path:
        return self.path / "lock"

    def exists(self) -> bool:
        """Return True if a stack was ever started here."""
        return self._format_file.exists()

    def prepare(self) -> None:
        """Create the folder where it is missing.

        Raises:
            HomeError: It cannot be written, or a newer version made it.
        """
        try:
            for folder in (self.path, self.dagster, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            self._check_format()
            if not (ignore := self.path / ".gitignore").exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise HomeError(
                f"the state folder {self.path} cannot be used: {error.strerror}; "
                "make room or give access, or set DAGFUSION_HOME to another folder"
            ) from error

    def _check_format(self) -> None:
        if not self.exists():
            self._format_file.write_text(f"{FORMAT}\n")
        if (found := self._format_file.read_text().strip()) != str(FORMAT):
            raise HomeError(
                f"the state folder {self.path} has format {found[:20]!r} and this version reads {FORMAT}: "
                "upgrade DagFusion, or set DAGFUSION_HOME to another folder"
            )

    def keep_logs(self) -> None:
        """Keep the servers' logs of the last start as `.1`, so that this start has new ones."""
        for log in self.logs.glob("*.log"):
            if log.name != SUPERVISOR_LOG:
                log.replace(log.with_name(f"{log.name}.1"))

    @contextlib.contextmanager
    def hold(self, command: str) -> Iterator[None]:
        """Lock the folder for this process; the system releases it when the process ends, however it ends.

        Raises:
            AlreadyRunningError: Another process holds it.
        """
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock(descriptor)
            self.write_state(command, ready=False, services=())
            self._error_file.unlink(missing_ok=True)
            yield
            self._state_file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_S  # `holder` takes the lock for a moment, too
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                holder = self.holder()
                by = f"`dagfusion {holder.command}`, process {holder.pid}" if holder else "another process"
                raise AlreadyRunningError(
                    f"the stack in {self.path} is running already ({by}): stop it with `dagfusion down`"
                ) from None
            else:
                return

    def holder(self) -> Holder | None:
        """Return the process that holds the folder now, or None."""
        try:
            with self._lock_file.open("rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            state = json.loads(self._state_file.read_text())
            state["services"] = tuple(ServerState(**server) for server in state["services"])
            holder = Holder(**state)
            alive = abs(psutil.Process(holder.pid).create_time() - holder.created) < 1
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return holder if alive else None

    def write_state(self, command: str, *, ready: bool, services: Sequence[ServerState]) -> None:
        """Write the servers that this process, the holder of the folder, runs."""
        this = psutil.Process()
        holder = Holder(command, this.pid, this.create_time(), ready=ready, services=tuple(services))
        write_private(self._state_file, json.dumps(asdict(holder), indent=2))

    def write_error(self, error: str) -> None:
        """Remember the error that stopped the stack, until another command holds the folder."""
        write_private(self._error_file, error)

    def read_error(self) -> str | None:
        """Read the error that stopped the stack; None when it was stopped by a command, or runs."""
        return self._error_file.read_text() if self._error_file.exists() else None

    def write_ports(self, http: int, flight: int, dagster: int) -> None:
        """Remember the ports that a stack has started on, for the next start."""
        ports = {"DAGFUSION_HTTP_PORT": http, "DAGFUSION_FLIGHT_PORT": flight, "DAGFUSION_DAGSTER_PORT": dagster}
        write_private(self._ports_file, "".join(f"{name}={port}\n" for name, port in ports.items()))

    def read_ports(self) -> dict[str, str]:
        """Read what `write_ports` wrote last, as settings; empty when nothing was."""
        return _read_variables(self._ports_file)

    def write_env(self, variables: Mapping[str, str]) -> None:
        """Write the settings by which others find the stack."""
        write_private(self.env_file, "".join(f"{name}={value}\n" for name, value in variables.items()))

    def read_env(self) -> dict[str, str]:
        """Read what `write_env` wrote; empty when nothing was."""
        return _read_variables(self.env_file)

    def read_bucket(self) -> dict[str, str]:
        """Read the bucket of the last start, as a setting; empty when there was none."""
        return {name: value for name, value in self.read_env().items() if name == "S3_BUCKET"}


def _read_variables(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def write_private(file: Path, text: str) -> None:
    """Replace a file at once with one that only its owner can read."""
    draft = file.with_name(f"{file.name}.new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as output:  # noqa: PTH123
        output.write(text)
    draft.replace(file)
