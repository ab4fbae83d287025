"""The output of the stack's commands: results on stdout, progress and errors on stderr."""

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagfusion_stack.status import Status


def say(line: str) -> None:
    """Show one line of progress, or an error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def show(line: str) -> None:
    """Show one line of a result."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show_json(document: object) -> None:
    """Show a result as one JSON document."""
    show(json.dumps(document, indent=2))


def show_status(status: "Status") -> None:
    """Show what runs, one line for each server."""
    if not status.running:
        show(f"The stack in {status.home} is not running.")
        if status.error is not None:
            show(f"It stopped with an error: {status.error}")
        if status.leftover:
            show(f"Left by a killed supervisor: {', '.join(status.leftover)}; `dagfusion down` ends it.")
        return
    state = "running" if status.ready else "starting"
    show(f"The stack in {status.home} is {state} (`dagfusion {status.command}`, process {status.pid}).")
    for server in status.services:
        where = f"process {server.pid}" if server.running else "ended"
        show(f"  {server.name:<18}  {where:<15}  {server.url or '':<23}  {server.log}".rstrip())
        if server.last_end is not None:
            times = "once" if server.restarts == 1 else f"{server.restarts} times"
            show(f"    started again {times}; {server.last_end}" if server.restarts else f"    {server.last_end}")
