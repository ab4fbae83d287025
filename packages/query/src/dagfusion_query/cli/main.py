"""The `dagfusion` command.

Results go to stdout and all else to stderr; the exit code is 1 for a failed statement and 2 for wrong usage.
"""

import sys
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from dagfusion_query.cli import serve
from dagfusion_query.cli import token as tokens
from dagfusion_query.errors import QueryError

if TYPE_CHECKING:
    from dagfusion_query.answers import Connection
    from dagfusion_query.cli.output import Output

_SERVICES = ("http", "https", "grpc", "grpc+tcp", "grpc+tls")
COMMANDS = "dagfusion.commands"  # the entry-point group of packages that add commands

app = typer.Typer(
    name="dagfusion",
    help="SQL over what Dagster materialized to S3: only the objects a query needs are read.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How rows are written to stdout."""

    table = "table"
    json = "json"
    csv = "csv"
    arrow = "arrow"


EventLog = Annotated[
    str | None, typer.Option("--event-log", metavar="URL|DIR", help="postgresql:// URL or DAGSTER_HOME folder.")
]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Its name, such as local, uat or prod.")]
FormatOption = Annotated[Format, typer.Option("--format", "-F", help="How rows are written.")]
Query = Annotated[str | None, typer.Argument(help="One SELECT statement; read from stdin when it is missing or `-`.")]
File = Annotated[Path | None, typer.Option("--file", "-f", help="Read the statement from a file.")]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="A query service, http:// or grpc://; else DAGFUSION_URL.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="For the service; better DAGFUSION_TOKEN, which no list of processes shows."
    ),
]
MaxRows = Annotated[int, typer.Option("--max-rows", min=0, help="Rows a table shows; 0 for all.")]


@app.command()
def tables(
    *,
    event_log: EventLog = None,
    environment: Environment = None,
    url: Url = None,
    token: Token = None,
    form: FormatOption = Format.table,
) -> None:
    """List the tables of the catalog."""
    with _connect(event_log, environment, url, token) as connection:
        _output(form).tables(connection.tables())


@app.command()
def sql(
    query: Query = None,
    *,
    file: File = None,
    event_log: EventLog = None,
    environment: Environment = None,
    url: Url = None,
    token: Token = None,
    form: FormatOption = Format.table,
    max_rows: MaxRows = 40,
) -> None:
    """Run a query."""
    statement = _statement(query, file)
    with _connect(event_log, environment, url, token) as connection:
        result = connection.sql(statement)
        _output(form, max_rows).result(result)


@app.command()
def explain(
    query: Query = None,
    *,
    file: File = None,
    event_log: EventLog = None,
    environment: Environment = None,
    url: Url = None,
    token: Token = None,
    form: FormatOption = Format.table,
) -> None:
    """Show which partitions, files and bytes a query reads, why it skips the rest, and DataFusion's plan."""
    statement = _statement(query, file)
    with _connect(event_log, environment, url, token) as connection:
        _output(form).explanation(connection.explain(statement))


app.command()(serve.serve)
app.add_typer(tokens.app, name="token")


def main() -> None:
    """Run the command line, with the commands that other installed packages add."""
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
    return 0


def _connect(event_log: str | None, environment: str | None, url: str | None, token: str | None) -> "Connection":
    from dagfusion_query.client.connect import connect  # noqa: PLC0415  # imports take a while

    if event_log is not None and (url is not None or token is not None):
        raise typer.BadParameter("--event-log is read here, and --url asks a service: give one of them")
    if url is not None and urlsplit(url).scheme.lower() not in _SERVICES:
        raise typer.BadParameter(f"--url must begin with http://, https://, grpc:// or grpc+tls://, got {url!r}")
    return connect(event_log or url, token=token, environment=environment)


def _output(form: Format, max_rows: int = 0) -> "Output":
    from dagfusion_query.cli.output import output  # noqa: PLC0415  # likewise

    return output(form.value, max_rows)


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
