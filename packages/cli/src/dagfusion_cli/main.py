"""The `dagfusion` command: the application, and the commands that query.

Results go to stdout and all else to stderr; the exit code is 1 for a failed statement, 2 for wrong usage, 130 after
Ctrl-C. The commands import their libraries when they run, so that `--help` and the shell's completion are fast.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from dagfusion_cli import environment_commands, service_commands
from dagfusion_cli.doctor_command import doctor
from dagfusion_cli.interrupts import end_abandoned, interruptibly
from dagfusion_cli.options import (
    AsOfOption,
    DiffOption,
    EngineOption,
    EnvironmentOption,
    EventLogOption,
    EveryAssetOption,
    FileOption,
    FormatOption,
    LimitOption,
    LocationOption,
    MaxRowsOption,
    OutputFileOption,
    OutputFormat,
    ParamsOption,
    ResultFormatOption,
    StatementArgument,
    TableFormat,
    TableFormatOption,
    TableNameArgument,
    TokenOption,
    UrlOption,
    chosen_format,
    opened,
    read_parameters,
)
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import QueryError
from dagfusion_client.settings import REVISIONS, SERVICE_URL, is_service_url
from dagfusion_query.fast_start import import_without_pandas, uncollected
from dagfusion_query.settings import stack_service

if TYPE_CHECKING:
    import pyarrow as pa

    from dagfusion_cli.output import Output
    from dagfusion_client.abstract_connection import Connection
    from dagfusion_client.returned_values import TableInfo

COMMANDS = "dagfusion.commands"  # the entry-point group of packages that add commands
INTERRUPTED = 130

app = typer.Typer(
    name="dagfusion",
    help="Query the Parquet tables that Dagster assets wrote to S3. A query reads only the objects that it needs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def tables(
    *,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: FormatOption = OutputFormat.table,
    every_asset: EveryAssetOption = False,
) -> None:
    """List the tables of the catalog."""
    with _connect(event_log, environment, url, token) as connection:
        interruptibly(lambda: _output(form).tables(connection.tables(), every_asset=every_asset))


def describe(
    table: TableNameArgument,
    *,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: FormatOption = OutputFormat.table,
) -> None:
    """Show the columns of a table, the location and size of its data, and its problems."""
    with _connect(event_log, environment, url, token) as connection:
        interruptibly(lambda: _output(form).table(_find(table, connection.tables())))


def sql(
    query: StatementArgument = None,
    *,
    param: ParamsOption = None,
    file: FileOption = None,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: ResultFormatOption = None,
    output_file: OutputFileOption = None,
    max_rows: MaxRowsOption = 40,
    as_of: AsOfOption = None,
    engine: EngineOption = None,
) -> None:
    """Run a statement and show its result."""
    statement, values = _statement(query, file), read_parameters(param or ())
    path = None if output_file is None or str(output_file) == "-" else output_file
    try:
        chosen = chosen_format(form, path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if engine == EngineChoice.spark and not (event_log or environment or url):
        url = stack_service(os.environ)  # the service of the local stack has the server
    with opened(path) as out, _connect(event_log, environment, url, token) as connection, warnings.catch_warnings():
        from dagfusion_client.abstract_connection import LeftOutWarning  # noqa: PLC0415  # imports pyarrow

        warnings.simplefilter("ignore", LeftOutWarning)  # the output has them
        interruptibly(
            lambda: _output(chosen, out, path, max_rows).result(
                connection.sql(statement, values, as_of=as_of, engine=engine)
            )
        )


def explain(
    query: StatementArgument = None,
    *,
    param: ParamsOption = None,
    file: FileOption = None,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: FormatOption = OutputFormat.table,
    as_of: AsOfOption = None,
) -> None:
    """Show the partitions, files and bytes that a query reads, why it skips the others, and DataFusion's plan."""
    statement, values = _statement(query, file), read_parameters(param or ())
    with _connect(event_log, environment, url, token) as connection:
        interruptibly(lambda: _output(form).explanation(connection.explain(statement, values, as_of=as_of)))


def history(
    table: TableNameArgument,
    *,
    diff: DiffOption = None,
    limit: LimitOption = REVISIONS,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: FormatOption = OutputFormat.table,
) -> None:
    """List the latest runs that wrote to a table, or compare two states of the table."""
    with _connect(event_log, environment, url, token) as connection:
        interruptibly(lambda: _output(form).rows(*_history(connection, table, diff, limit)))


def _history(connection: "Connection", table: str, diff: tuple[str, str] | None, limit: int) -> tuple["pa.Table", str]:
    from dagfusion_cli.output import diff_rows, revision_rows  # noqa: PLC0415

    if diff is None:
        return revision_rows(connection.history(table, limit)), ""
    before, after = diff
    return diff_rows(connection.diff(table, before, None if after == "now" else after))


def export(
    table: TableNameArgument,
    *,
    form: TableFormatOption = TableFormat.delta,
    location: LocationOption = None,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
) -> None:
    """Write a table's metadata beside its objects as a Delta log, for readers that do not use Iceberg.

    The Delta log gets one commit with what has changed since the last export, or none. No object is read or changed.
    """
    del form  # there is one
    interruptibly(lambda: _export(table, location, event_log, environment))


def _export(name: str, location: str | None, event_log: str | None, environment: str | None) -> None:
    with uncollected():
        import_without_pandas()
        from dagfusion_interop.delta.delta_location import has_hive_paths  # noqa: PLC0415
        from dagfusion_interop.delta.delta_log import export_delta  # noqa: PLC0415
        from dagfusion_query.connection import connect_embedded  # noqa: PLC0415  # DataFusion takes a while to import
    from dagfusion_client.sql_text import parse_table  # noqa: PLC0415

    with connect_embedded(event_log, environment=environment) as connection:
        done = export_delta(parse_table(name), connection.refresh, connection.settings, location)
    made = done.commit
    what = "nothing has changed" if made is None else f"{made.added:,} files added, {made.removed:,} removed"
    typer.echo(f"{done.location}: version {done.version}, {what}")
    for warning in done.table.warnings if done.table is not None else ():
        typer.echo(f"warning: {warning}", err=True)
    if done.table is not None and not has_hive_paths(done.table):
        typer.echo(
            "note: polars.scan_delta takes partition values from paths, and these paths have none: call it with "
            "use_pyarrow=True",
            err=True,
        )


def _connect(event_log: str | None, environment: str | None, url: str | None, token: str | None) -> "Connection":
    if event_log is not None and (url is not None or token is not None):
        raise typer.BadParameter("give --event-log or --url, not both: a service reads its own event log")
    if url is not None and not is_service_url(url):
        raise typer.BadParameter(f"--url must be {SERVICE_URL}, got {url!r}")
    return interruptibly(lambda: _open(event_log or url, environment, token))


def _open(target: str | None, environment: str | None, token: str | None) -> "Connection":
    with uncollected():
        import_without_pandas()
        from dagfusion_query.connector import connect  # noqa: PLC0415

        return connect(target, token=token, environment=environment)


def _output(form: OutputFormat, out: BinaryIO | None = None, file: Path | None = None, max_rows: int = 0) -> "Output":
    from dagfusion_cli.output import output  # noqa: PLC0415

    return output(form, out or sys.stdout.buffer, max_rows, file=file)


def _find(name: str, tables: "Sequence[TableInfo]") -> "TableInfo":
    """Return the table of a name.

    Raises:
        UnknownTableError: There is none; the error names those that are near.
    """
    from dagfusion_query.engine.datafusion_errors import unknown_table  # noqa: PLC0415

    wanted = name.replace('"', "").lower()
    found = next((table for table in tables if table.name == wanted), None)
    if found is None:
        raise unknown_table(wanted, [table.name for table in tables], name)
    return found


def _statement(query: str | None, file: Path | None) -> str:
    """Return the statement from the argument, a file or stdin."""
    if query is not None and file is not None:
        raise typer.BadParameter("give the statement as an argument or with --file, not both")
    if file is not None and str(file) != "-":
        try:
            return file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file} cannot be read: {error}") from error
    if query is None or query == "-":
        if sys.stdin.isatty():
            raise typer.BadParameter("there is no statement: give one as an argument, with --file, or on stdin")
        return sys.stdin.read()
    return query


def _show_version(is_set: bool) -> None:  # noqa: FBT001  # as typer calls it
    if is_set:
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
    """Query the Parquet tables that Dagster assets wrote to S3. A query reads only the objects that it needs."""
    del show_version


for command in (
    tables,
    describe,
    sql,
    explain,
    history,
    export,
    service_commands.serve,
    doctor,
    environment_commands.cost,
    environment_commands.queries,
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
