"""The `dagfusion` command.

Results go to stdout and all else to stderr; the exit code is 1 for a failed statement, 2 for wrong usage, 130 after
Ctrl-C.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from dagfusion_query.cli import query_commands, service_commands
from dagfusion_query.cli.interrupts import end_abandoned
from dagfusion_query.errors import QueryError

COMMANDS = "dagfusion.commands"  # the entry-point group of packages that add commands
INTERRUPTED = 130

app = typer.Typer(
    name="dagfusion",
    help="SQL over what Dagster materialized to S3. A query reads only the objects that it needs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:  # noqa: FBT001  # as typer calls it
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  # takes a while to import

        typer.echo(f"dagfusion {version('dagfusion-query')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """SQL over what Dagster materialized to S3. A query reads only the objects that it needs."""
    del show_version


for command in (
    query_commands.tables,
    query_commands.describe,
    query_commands.sql,
    query_commands.explain,
    service_commands.serve,
):
    app.command()(command)
app.add_typer(service_commands.token, name="token")


def main() -> None:
    """Run the command line, with the commands that other installed packages add."""
    own = {command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    if sys.argv[1:2] and sys.argv[1] in own:  # a command of this package starts without looking for others
        sys.exit(run(app))
    from importlib.metadata import entry_points  # noqa: PLC0415

    for entry in entry_points(group=COMMANDS):
        add: Callable[[typer.Typer], None] = entry.load()
        add(app)
    sys.exit(run(app))


def run(commands: Callable[[], None]) -> int:
    """Run a command line and return its exit code; an error becomes one line on stderr."""
    try:
        commands()
    except QueryError as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("Interrupted", err=True)
            end_abandoned(INTERRUPTED)
        raise
    return 0
