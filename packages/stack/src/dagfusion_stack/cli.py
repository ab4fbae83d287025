"""The commands that the stack adds to `dagfusion`.

Each imports what it runs when it runs, so that the other commands do not wait for it.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from dagfusion_contract.setting_declarations import declaration
from dagfusion_stack import console
from dagfusion_stack.errors import StackError
from dagfusion_stack.ports import is_free
from dagfusion_stack.settings import Settings

NOT_RUNNING = 3
INTERRUPTED = 130
LEAST_DAYS, LEAST_STATES = 5, 5  # the documented queries ask for 2024-01-05 and California


def _port(name: str) -> Any:
    """Return the option of a port."""
    field = declaration(Settings, name)
    numbers, meaning = field.metadata["numbers"], field.metadata["help"]
    # The meaning of 0 has its own default.
    default = f" Default: that of the last start, else {field.default}." if field.default else ""
    return typer.Option(min=numbers[0], max=numbers[-1], help=f"{meaning}{default}")


DagsterPortOption = Annotated[int | None, _port("dagster_port")]
HttpPortOption = Annotated[int | None, _port("http_port")]
FlightPortOption = Annotated[int | None, _port("flight_port")]
S3PortOption = Annotated[int | None, _port("s3_port")]


def commands(app: typer.Typer) -> None:
    """Add the commands of the stack to `app`."""
    for command in (demo, seed, up, down, status):
        app.command()(command)


def demo(
    *,
    days: Annotated[
        int,
        typer.Option(min=LEAST_DAYS, max=366, help="The number of days of each partitioned asset, from 2024-01-01."),
    ] = 7,
    states: Annotated[
        int, typer.Option(min=LEAST_STATES, max=50, help="The number of states, in alphabetical order.")
    ] = 50,
    s3_port: S3PortOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Materialize six assets, query them, and check every answer against the stored objects."""
    started = time.monotonic()
    from dagfusion_stack.console import report  # noqa: PLC0415

    with _reporting():
        settings = _settings(s3_port=s3_port)
        with report.progress() as progress:
            with progress.step("Loading Dagster and DataFusion", 1):
                from dagfusion_stack import demo as flow  # noqa: PLC0415
                from dagfusion_stack.materialize import Extent  # noqa: PLC0415
            found = flow.run(settings, progress, Extent(days, states), started)
        if as_json:
            console.show_json(found.document())
        else:
            report.show(found)
        console.say(_verdict(found.ok, found.seconds))
        if not found.ok:
            raise typer.Exit(1)


def seed(
    *,
    days: Annotated[
        int, typer.Option(min=1, max=3660, help="The number of days of each partitioned asset, from 2024-01-01.")
    ] = 365,
    states: Annotated[int, typer.Option(min=1, max=50, help="The number of states, in alphabetical order.")] = 50,
    scale: Annotated[float, typer.Option(min=0.001, max=10, help="Multiply the number of days by this factor.")] = 1.0,
    random_seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="The seed of the generated data. The same seed gives the same bytes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Materialize both partitioned assets through Dagster, in one run each. Existing partitions are kept."""
    from dagfusion_stack.console import report  # noqa: PLC0415

    with _reporting():
        settings = _settings()
        with report.progress() as progress:
            with progress.step("Loading Dagster and DataFusion", 1):
                from dagfusion_stack import seed as flow  # noqa: PLC0415
                from dagfusion_stack.materialize import Extent  # noqa: PLC0415
            found = flow.run(settings, progress, Extent(max(1, round(days * scale)), states), seed=random_seed)
        if as_json:
            console.show_json([asdict(asset) for asset in found])
        else:
            report.show_seeded(found)


def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background, and return when everything is ready.")
    ] = False,
    dagster_port: DagsterPortOption = None,
    http_port: HttpPortOption = None,
    flight_port: FlightPortOption = None,
    s3_port: S3PortOption = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Also run a Sail server with two workers, for `dagfusion sql --engine spark`. "
            "Needs the extra `distributed`.",
        ),
    ] = False,
) -> None:
    """Run the stack: PostgreSQL, an S3 server, Dagster over the reference code location, and the query service."""
    from dagfusion_stack import background, supervisor  # noqa: PLC0415
    from dagfusion_stack import status as stack_status  # noqa: PLC0415
    from dagfusion_stack.home import Home  # noqa: PLC0415

    with _reporting():
        settings = _settings(dagster_port=dagster_port, http_port=http_port, flight_port=flight_port, s3_port=s3_port)
        if detach:
            background.start(settings, console.say, distributed=distributed)
            console.show_status(stack_status.read(Home(settings.home)))
            return
        ready = False
        try:
            with supervisor.supervise(settings, "up", console.say) as stack:
                stack.start_all(distributed=distributed)
                console.show_status(stack_status.read(stack.home))
                console.say("Ctrl-C stops it.")
                ready = True
                stack.watch()
        except KeyboardInterrupt:
            if not ready:
                raise


def down() -> None:
    """Stop the stack of this folder, and remaining processes of a killed stack."""
    from dagfusion_stack import supervisor  # noqa: PLC0415
    from dagfusion_stack.home import Home  # noqa: PLC0415

    with _reporting():
        home = Home(Settings.read(os.environ).home)
        stopped = supervisor.down(home, console.say)
        console.show(f"Stopped: {', '.join(stopped)}" if stopped else f"Nothing runs in {home.path}.")


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Show the running servers with their addresses and logs. The exit code is 3 if nothing runs."""
    from dagfusion_stack import status as stack_status  # noqa: PLC0415
    from dagfusion_stack.home import Home  # noqa: PLC0415

    with _reporting():
        found = stack_status.read(Home(Settings.read(os.environ).home))
        if as_json:
            console.show_json(asdict(found))
        else:
            console.show_status(found)
        if not found.running:
            raise typer.Exit(NOT_RUNNING)


def _settings(**options: int | None) -> Settings:
    """Read the settings: what is not given is as at the last start, the bucket always and a port if it is free."""
    from dagfusion_stack.home import Home  # noqa: PLC0415

    home = Home(Settings.read(os.environ).home)
    stored = {name: port for name, port in home.read_ports().items() if is_free(int(port))} | home.read_bucket()
    variables = {name: value for name, value in os.environ.items() if value}
    return Settings.read({**stored, **variables}, **options)


def _verdict(ok: bool, seconds: float) -> str:  # noqa: FBT001
    if not ok:
        return "error: an answer differs from the one computed from the stored objects"
    after = (
        'Next: `dagfusion up -d` runs the stack with Dagster\'s UI, then `dagfusion tables` and `dagfusion sql "..."`'
    )
    return f"Every answer is the one computed from the stored objects ({seconds:.1f} s). {after}."


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Turn an error into one line on stderr and exit code 1, Ctrl-C into exit code 130, of which `dagfusion` tells."""
    try:
        yield
    except StackError as error:
        console.say(f"error: {error}")
        raise typer.Exit(1) from error
    except BrokenPipeError:  # of a reader such as `head`; Click exits without a word
        raise
    except OSError as error:
        console.say(f"error: {error.filename or 'the state folder'}: {error.strerror or error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
