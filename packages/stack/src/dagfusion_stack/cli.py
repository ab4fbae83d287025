"""The commands that the stack adds to `dagfusion`."""

import os
from typing import Annotated

import typer

from dagfusion_stack import background, console, supervisor
from dagfusion_stack import status as stack_status
from dagfusion_stack.home import Home
from dagfusion_stack.settings import HIGHEST_PORT, Settings

NOT_RUNNING = 3

DagsterPort = Annotated[
    int | None, typer.Option(min=0, max=HIGHEST_PORT, help="Port of Dagster's web interface [default: 3000].")
]
S3Port = Annotated[
    int | None, typer.Option(min=0, max=HIGHEST_PORT, help="Port of the S3 server [default: a free one].")
]


def commands(app: typer.Typer) -> None:
    """Add the commands of the stack to `app`."""
    for command in (up, down, status):
        app.command()(command)


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    dagster_port: DagsterPort = None,
    s3_port: S3Port = None,
) -> None:
    """Run the stack: PostgreSQL, an S3 server, and Dagster over the reference code location."""
    with console.reporting():
        settings = Settings.read(os.environ, dagster_port=dagster_port, s3_port=s3_port)
        if detach:
            background.start(settings, console.say)
            console.show_status(stack_status.read(Home(settings.home)))
            return
        ready = False
        try:
            with supervisor.supervise(settings, "up", console.say) as stack:
                stack.start_all()
                console.show_status(stack_status.read(stack.home))
                console.say("Ctrl-C stops it.")
                ready = True
                stack.watch()
        except KeyboardInterrupt:
            if not ready:
                raise


def down() -> None:
    """Stop the stack of this folder, and whatever a killed one left."""
    with console.reporting():
        home = Home(Settings.read(os.environ).home)
        stopped = supervisor.down(home, console.say)
        console.show(f"Stopped: {', '.join(stopped)}" if stopped else f"Nothing runs in {home.path}.")


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Show one JSON document.")] = False) -> None:
    """Show what runs, where it answers and where its logs are; the exit code is 3 when nothing runs."""
    with console.reporting():
        found = stack_status.read(Home(Settings.read(os.environ).home))
        if as_json:
            console.show_json(console.status_document(found))
        else:
            console.show_status(found)
        if not found.running:
            raise typer.Exit(NOT_RUNNING)
