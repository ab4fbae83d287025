"""`dagfusion serve`: the query service, in the foreground."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_query.errors import NotParquetError
from dagfusion_query.package_extras import needs
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import as_variables, meaning

if TYPE_CHECKING:
    from dagfusion_query.server import Ready

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="dagfusion.toml is the default.")]
EventLog = Annotated[
    str | None, typer.Option("--event-log", metavar="URL|DIR", help="postgresql:// URL or DAGSTER_HOME folder.")
]
DagsterHome = Annotated[str | None, typer.Option("--dagster-home", metavar="DIR", help="A DAGSTER_HOME folder.")]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="The only environment to serve.")]
HttpAddress = Annotated[
    str | None,
    typer.Option("--http-address", metavar="HOST:PORT", help=meaning(ServiceSettings, "http_address")),
]
FlightAddress = Annotated[
    str | None,
    typer.Option("--flight-address", metavar="HOST:PORT", help=meaning(ServiceSettings, "flight_address")),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help=meaning(ServiceSettings, "workers"))]

SHOWN_TABLES = 20


def serve(
    *,
    config: ConfigFile = None,
    event_log: EventLog = None,
    dagster_home: DagsterHome = None,
    environment: Environment = None,
    http_address: HttpAddress = None,
    flight_address: FlightAddress = None,
    workers: Workers = None,
) -> None:
    """Serve SQL over HTTP and Arrow Flight SQL, with a web console."""
    with needs("server", "`dagfusion serve`"):
        from dagfusion_query import server  # noqa: PLC0415  # takes a while to import
    from dagfusion_query.config import read_config  # noqa: PLC0415

    if event_log is not None and dagster_home is not None:
        raise typer.BadParameter("give --event-log or --dagster-home, not both")
    if dagster_home is not None and not Path(dagster_home).expanduser().is_dir():
        raise typer.BadParameter(f"--dagster-home must be a folder, and there is none at {dagster_home}")
    given = {"http_address": http_address, "flight_address": flight_address, "workers": workers}
    variables = {**os.environ, **as_variables(ServiceSettings, given)}
    read = read_config(variables, file=config, event_log=event_log or dagster_home, environment=environment)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    server.serve(read, _announce)


def _announce(ready: "Ready") -> None:
    """Say where the doors are, and which tables there are."""
    http, flight = ready.urls
    typer.echo(f"console and HTTP  {http}")
    typer.echo(f"Arrow Flight SQL  {flight}")
    for state in ready.environments:
        if state.problem is not None:
            typer.echo(f"{state.name}: no tables yet: {state.problem}")
            continue
        tables = state.snapshot.tables
        names = sorted(str(name) for name, table in tables.items() if not isinstance(table.problem, NotParquetError))
        undiscovered = state.lag.undiscovered if state.lag is not None else 0
        more = f", and {undiscovered} materializations whose objects have still to be looked at" if undiscovered else ""
        typer.echo(f"{state.name}: {len(names)} {'table' if len(names) == 1 else 'tables'}{more}")
        if others := len(tables) - len(names):
            typer.echo(f"  beside {others} {'asset' if others == 1 else 'assets'} whose objects are not Parquet")
        for name in names[:SHOWN_TABLES]:
            typer.echo(f"  {name}")
        if len(names) > SHOWN_TABLES:
            typer.echo(f"  and {len(names) - SHOWN_TABLES} more")
    sys.stdout.flush()
