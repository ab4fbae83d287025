"""`dagfusion token`: who may ask the service, and for what."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_query.errors import SettingsError

if TYPE_CHECKING:
    from dagfusion_query.access.tokens import Token, Tokens

app = typer.Typer(help="Access tokens of the query service.", no_args_is_help=True, rich_markup_mode=None)

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="dagfusion.toml is the default.")]
Grant = Annotated[
    list[str],
    typer.Option(
        "--grant", metavar="WHAT", help="uat, uat_silver_tax_id.*, uat_silver_tax_id.orders or *; repeatable."
    ),
]
Expires = Annotated[str, typer.Option("--expires", metavar="TIME", help="Such as 90d, 12h or never.")]

_DURATION = re.compile(r"([1-9]\d{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command()
def create(name: str, grant: Grant, expires: Expires = "90d", config: ConfigFile = None) -> None:
    """Make a token, and print its secret: it is shown this once."""
    from dagfusion_query.access.grants import meaning  # noqa: PLC0415  # imports pyarrow

    tokens = _tokens(config)
    is_first = not tokens.exist()
    secret = tokens.create(name, grant, _expiry(expires, datetime.now(UTC)))
    typer.echo(secret)
    typer.echo(f"the token of {name}, which is shown only now; clients send it as `Authorization: Bearer`", err=True)
    typer.echo(f"it may read: {', '.join(map(meaning, grant))}", err=True)
    if is_first:
        typer.echo("it is the first: from now on requests without one are refused, by default", err=True)


@app.command("list")
def show(config: ConfigFile = None) -> None:
    """List all tokens, without their secrets."""
    lines = [("NAME", "ID", "STATE", "EXPIRES", "GRANTS"), *map(_line, _tokens(config).list())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def revoke(name: str, config: ConfigFile = None) -> None:
    """End a token, by its name or id; a running service takes it no more."""
    token = _tokens(config).revoke(name)
    typer.echo(f"revoked {token.name} ({token.id})")


def _tokens(config: Path | None) -> "Tokens":
    from dagfusion_query.access.tokens import Tokens  # noqa: PLC0415
    from dagfusion_query.config import read_tokens_file  # noqa: PLC0415

    return Tokens(read_tokens_file(os.environ, file=config))


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
