"""The command `dagfusion cost`."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_query.cli.command_process import interruptibly
from dagfusion_query.cli.doctor_command import Json
from dagfusion_query.cli.options import Environment, EventLog, Token, Url
from dagfusion_query.cli.service_commands import ConfigFile
from dagfusion_query.errors import SettingsError

if TYPE_CHECKING:
    from dagfusion_query.config import Config
    from dagfusion_query.cost.estimate import Estimate
    from dagfusion_query.cost.prices import Prices

Months = Annotated[int, typer.Option("--months", min=1, max=120, help="The number of months, from now.")]
Requests = Annotated[
    int | None, typer.Option("--requests", min=0, help="GETs of queries each month, if no service has counted them.")
]


def cost(
    *,
    months: Months = 12,
    requests: Requests = None,
    config: ConfigFile = None,
    event_log: EventLog = None,
    environment: Environment = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Estimate the costs of storage and requests, and what a consolidation would save.

    The objects are those of the catalog, at their ages, under the lifecycle rules of their bucket. The requests are
    those that the service at --url has counted, or --requests. No object is read.
    """
    if requests is not None and url is not None:
        raise typer.BadParameter("give --requests or --url, not both")
    from dagfusion_query.config import read_config  # noqa: PLC0415

    found, prices, notes = interruptibly(
        lambda: _estimated(
            read_config(os.environ, file=config, event_log=event_log, environment=environment),
            months,
            _requests(requests, url, token, datetime.now(UTC)),
        )
    )
    if as_json:
        import orjson  # noqa: PLC0415

        document = {"estimates": {name: _document(one) for name, one in found.items()}, "prices": asdict(prices)}
        typer.echo(orjson.dumps({**document, "notes": notes}, option=orjson.OPT_INDENT_2))
        return
    for name, one in found.items():
        _show(name, one, prices)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _estimated(
    config: "Config", months: int, requests: tuple[int, str]
) -> "tuple[dict[str, Estimate], Prices, list[str]]":
    from dagfusion_query.cost.estimate import Estimate, estimate  # noqa: PLC0415  # imports numpy
    from dagfusion_query.cost.gathered import read_files, read_lifecycles  # noqa: PLC0415
    from dagfusion_query.cost.prices import read_prices  # noqa: PLC0415

    prices, (requests_month, requests_from) = read_prices(), requests
    found, notes = dict[str, Estimate](), list[str]()
    for one in config.environments:
        tables, buckets = read_files(one, datetime.now(UTC))
        rules, unknown = read_lifecycles(one, buckets)
        notes += [f"the lifecycle rules of s3://{bucket} cannot be read: {why}" for bucket, why in unknown.items()]
        found[one.name] = estimate(
            tables, rules, prices, months=months, requests_month=requests_month, requests_from=requests_from
        )
    return found, prices, notes


def _requests(requests: int | None, url: str | None, token: str | None, now: datetime) -> tuple[int, str]:
    """Return the GETs of a month, and where the number comes from."""
    if url is None:
        return requests or 0, "--requests" if requests is not None else "none: give --requests or --url"
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url must be the http:// or https:// URL of a service here, got {url!r}")
    from dagfusion_query.client.connection_pool import ConnectionPool  # noqa: PLC0415
    from dagfusion_query.cost.gathered import counted_requests  # noqa: PLC0415
    from dagfusion_query.documents.queries import QueriesDocument  # noqa: PLC0415
    from dagfusion_query.settings import ClientSettings  # noqa: PLC0415

    pool = ConnectionPool(url, token or ClientSettings.read(os.environ).token)
    try:
        history = pool.document(QueriesDocument, "GET", "/v1/queries")
        month, queries = counted_requests(history.queries, now)
    finally:
        pool.close()
    return month, f"{queries:,} queries of {url}"


def _document(found: "Estimate") -> dict[str, object]:
    months = [{**asdict(month), "usd": month.usd} for month in found.months]
    return {**asdict(found), "months": months, "usd": found.usd}


def _show(name: str, found: "Estimate", prices: "Prices") -> None:
    first, last = found.months[0], found.months[-1]
    months = [("now", first)] if first is last else [("now", first), (f"in month {last.month}", last)]
    typer.echo(f"{name}: ${found.usd:,.2f} for {len(found.months)} months, at prices of {prices.region}, {prices.date}")
    for label, month in months:
        for one in month.classes:
            typer.echo(
                f"  {label}: {one.objects:,} objects, {one.gb:,.3f} GiB {one.storage_class}: ${one.usd:,.4f} a month"
            )
    moved, deleted = sum(m.moved for m in found.months), sum(m.deleted for m in found.months)
    if moved or deleted:
        usd = sum(month.moves_usd for month in found.months)
        typer.echo(f"  lifecycle rules move {moved:,} objects (${usd:,.4f}) and delete {deleted:,}")
    typer.echo(f"  {found.requests_month:,} GETs a month ({found.requests_from}): ${found.requests_usd:,.4f} a month")
    typer.echo(f"  {found.writes_month:,} PUTs a month: ${found.writes_usd:,.4f} a month")
    for saving in found.savings:
        typer.echo(
            f"  consolidating {saving.table}: {saving.objects_then:,} objects in place of {saving.objects_now:,}, "
            f"${saving.usd_month:,.4f} a month less for requests, ${saving.extra_usd_month:,.4f} more for storage"
        )
