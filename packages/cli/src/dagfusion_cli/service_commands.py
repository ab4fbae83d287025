"""The commands for operators of the service: `dagfusion serve` and `dagfusion token`."""

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_cli.options import EventLogOption
from dagfusion_client.errors import NotParquetError, SettingsError, needs
from dagfusion_contract.setting_declarations import as_variables, meaning, option_help
from dagfusion_query.service_settings import ConfigSettings, ServiceSettings

if TYPE_CHECKING:
    from dagfusion_query.access.authentication import Token, Tokens
    from dagfusion_server.service_process import Ready

token = typer.Typer(help="Access tokens of the query service.", no_args_is_help=True, rich_markup_mode=None)

ConfigFileOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help=option_help(ConfigSettings, "config"))
]
GrantOption = Annotated[
    list[str],
    typer.Option(
        "--grant",
        metavar="WHAT",
        help="What the token may read: uat, uat_silver_tax_id.*, uat_silver_tax_id.orders or *. Repeatable.",
    ),
]
ExpiresOption = Annotated[
    str, typer.Option("--expires", metavar="TIME", help="The lifetime of the token, such as 90d, 12h or never.")
]

TokenNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the token.")]

_DURATION = re.compile(r"([1-9]\d{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@token.command()
def create(
    name: TokenNameArgument, grant: GrantOption, expires: ExpiresOption = "90d", config: ConfigFileOption = None
) -> None:
    """Create a token and print its secret, which is shown only once."""
    from dagfusion_query.access.grants import meaning  # noqa: PLC0415  # imports pyarrow

    tokens = _tokens(config)
    is_first = not tokens.exist()
    secret = tokens.create(name, grant, _expiry(expires, datetime.now(UTC)))
    typer.echo(secret)
    typer.echo(f"the token of {name}, which is shown only once; clients send it as `Authorization: Bearer`", err=True)
    typer.echo(f"it may read: {', '.join(map(meaning, grant))}", err=True)
    if is_first:
        typer.echo("this is the first token: from now on, requests without a token are refused by default", err=True)


@token.command("list")
def show(config: ConfigFileOption = None) -> None:
    """List all tokens, without their secrets."""
    lines = [("NAME", "ID", "STATE", "EXPIRES", "GRANTS"), *map(_line, _tokens(config).list())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@token.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name or the id of the token.")],
    config: ConfigFileOption = None,
) -> None:
    """Revoke a token, by its name or id. A running service refuses it from then on."""
    revoked = _tokens(config).revoke(name)
    typer.echo(f"revoked {revoked.name} ({revoked.id})")


def _tokens(config: Path | None) -> "Tokens":
    from dagfusion_query.access.secret_tokens import open_tokens  # noqa: PLC0415
    from dagfusion_query.config import read_tokens_file  # noqa: PLC0415

    return open_tokens(read_tokens_file(os.environ, file=config))


def _expiry(text: str, now: datetime) -> datetime | None:
    if text == "never":
        return None
    if (match := _DURATION.fullmatch(text)) is None:
        raise SettingsError(
            f"--expires must be a number of days, hours or minutes (90d, 12h, 30m) or never, got {text!r}"
        )
    return now + timedelta(**{_UNITS[match[2]]: int(match[1])})


def _line(token: "Token") -> tuple[str, ...]:
    now = datetime.now(UTC)
    state = "active" if token.is_active(now) else "expired" if token.revoked is None else "revoked"
    expires = "never" if token.expires is None else f"{token.expires:%Y-%m-%d %H:%M}"
    return token.name, token.id, state, expires, " ".join(token.grants)


DagsterHomeOption = Annotated[
    str | None, typer.Option("--dagster-home", metavar="DIR", help="The DAGSTER_HOME folder that has the event log.")
]
ServedEnvironmentOption = Annotated[
    str | None, typer.Option("--environment", "-e", help="Serve only this environment.")
]
HttpAddressOption = Annotated[
    str | None,
    typer.Option("--http-address", metavar="HOST:PORT", help=meaning(ServiceSettings, "http_address")),
]
FlightAddressOption = Annotated[
    str | None,
    typer.Option("--flight-address", metavar="HOST:PORT", help=meaning(ServiceSettings, "flight_address")),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help=meaning(ServiceSettings, "workers"))]

SHOWN_TABLES = 20


def serve(
    *,
    config: ConfigFileOption = None,
    event_log: EventLogOption = None,
    dagster_home: DagsterHomeOption = None,
    environment: ServedEnvironmentOption = None,
    http_address: HttpAddressOption = None,
    flight_address: FlightAddressOption = None,
    workers: WorkersOption = None,
) -> None:
    """Serve SQL over HTTP and Arrow Flight SQL, with a web console."""
    with needs("server", "`dagfusion serve`"):
        from dagfusion_server import service_process  # noqa: PLC0415  # takes a while to import
        from dagfusion_server.service.log_format import configure_log  # noqa: PLC0415
    from dagfusion_query.config import read_config  # noqa: PLC0415

    if event_log is not None and dagster_home is not None:
        raise typer.BadParameter("give --event-log or --dagster-home, not both")
    if dagster_home is not None and not Path(dagster_home).expanduser().is_dir():
        raise typer.BadParameter(f"--dagster-home must be a folder, and there is none at {dagster_home}")
    options = {"http_address": http_address, "flight_address": flight_address, "workers": workers}
    variables = {**os.environ, **as_variables(ServiceSettings, options)}
    read = read_config(variables, file=config, event_log=event_log or dagster_home, environment=environment)
    configure_log(read.service.log_format, sys.stderr)
    service_process.serve(read, _announce)


def _announce(ready: "Ready") -> None:
    """Print the addresses of the doors, and the tables."""
    from dagfusion_client.preview import counted  # noqa: PLC0415  # takes a while to import

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
        more = f", and {undiscovered} materializations whose files are not discovered yet" if undiscovered else ""
        typer.echo(f"{state.name}: {counted(len(names), 'table')}{more}")
        if others := len(tables) - len(names):
            typer.echo(f"  and {counted(others, 'asset')} whose objects are not Parquet")
        for name in names[:SHOWN_TABLES]:
            typer.echo(f"  {name}")
        if len(names) > SHOWN_TABLES:
            typer.echo(f"  and {len(names) - SHOWN_TABLES} more")
    sys.stdout.flush()
