"""The servers that run in a state folder, from the process table."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from dagfusion_stack import process
from dagfusion_stack.home import Home


@dataclass(frozen=True)
class ServerStatus:
    """One server: whether it runs, where, where its log is, and how often it was started again."""

    name: str
    running: bool
    pid: int
    url: str | None
    log: str
    restarts: int = 0
    last_end: str | None = None


@dataclass(frozen=True)
class Status:
    """The state of one stack: its supervisor, its servers, and processes that have no supervisor.

    `error` is what stopped a stack that does not run, unless a command stopped it.
    """

    home: str
    running: bool
    ready: bool
    command: str | None
    pid: int | None
    services: Sequence[ServerStatus]
    leftover: Sequence[str]
    error: str | None = None


def read(home: Home) -> Status:
    """Read the state of the stack of `home`, without changes and without network requests."""
    holder = home.holder()
    if holder is None:
        leftover = sorted(set(process.marked(home.path).values()))
        return Status(str(home.path), False, False, None, None, (), leftover, home.read_error())  # noqa: FBT003
    servers = [
        ServerStatus(
            server.name,
            _runs(server.pid),
            server.pid,
            server.url,
            server.log,
            server.restarts,
            server.last_end,
        )
        for server in holder.services
    ]
    return Status(str(home.path), True, holder.ready, holder.command, holder.pid, servers, ())  # noqa: FBT003


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
