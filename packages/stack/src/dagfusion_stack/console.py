"""What the stack's commands show: results on stdout, progress and errors on stderr."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import typer

from dagfusion_stack.errors import StackError
from dagfusion_stack.status import Status

INTERRUPTED = 130


def say(line: str) -> None:
    """Show one line of progress."""
    typer.echo(line, err=True)


def show(line: str) -> None:
    """Show one line of a result."""
    typer.echo(line)


def show_json(document: object) -> None:
    """Show a result as one JSON document."""
    typer.echo(json.dumps(document, indent=2, default=str))


def show_status(status: Status) -> None:
    """Show what runs, one line a service."""
    if not status.running:
        typer.echo(f"The stack in {status.home} is not running.")
        if status.leftover:
            typer.echo(f"Left by a killed supervisor: {', '.join(status.leftover)}; `dagfusion down` ends it.")
        return
    state = "running" if status.ready else "starting"
    typer.echo(f"The stack in {status.home} is {state} (`dagfusion {status.command}`, process {status.pid}).")
    for service in status.services:
        where = f"process {service.pid}" if service.running else "ended"
        typer.echo(f"  {service.name:<18}  {where:<15}  {service.url or '':<23}  {service.log}".rstrip())


def status_document(status: Status) -> dict[str, object]:
    """Give the status as a JSON document."""
    return asdict(status)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn an error of the stack into one line on stderr and exit code 1, Ctrl-C into exit code 130."""
    try:
        yield
    except StackError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        say("Interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        say(f"error: {error.filename or 'the state folder'}: {error.strerror or error}")
        sys.stderr.flush()
        raise typer.Exit(1) from error
