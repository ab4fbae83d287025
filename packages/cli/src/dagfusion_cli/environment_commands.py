"""The commands about the use of environments: `dagfusion cost` and `dagfusion queries`."""

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from dagfusion_cli.interrupts import interruptibly
from dagfusion_cli.options import EnvironmentOption, EventLogOption, FormatOption, OutputFormat, TokenOption, UrlOption
from dagfusion_cli.service_commands import ConfigFileOption
from dagfusion_client.errors import SettingsError
from dagfusion_query.service_settings import QUERIES_LIMIT

if TYPE_CHECKING:
    from dagfusion_client.connection_pool import ConnectionPool
    from dagfusion_client.documents.query_documents import QueryInfo
    from dagfusion_query.config import Config
    from dagfusion_query.cost.estimate import Estimate, Prices

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
MonthsOption = Annotated[int, typer.Option("--months", min=1, max=120, help="The number of months, from now.")]
RequestsOption = Annotated[
    int | None, typer.Option("--requests", min=0, help="GET requests per month, if --url is not given.")
]
QueryLimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=QUERIES_LIMIT, help="The maximum number of ended queries.")
]
BeforeOption = Annotated[
    str | None,
    typer.Option(
        "--before", metavar="TIME", help="List queries that ended before a time (ISO 8601; UTC without a zone)."
    ),
]


def cost(
    *,
    months: MonthsOption = 12,
    requests: RequestsOption = None,
    config: ConfigFileOption = None,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate the costs of storage and requests, and what a consolidation would save.

    The storage is that of the catalog's objects, with their current ages and the lifecycle rules of their bucket. The
    requests are those in the history of the service at --url, or --requests. No object is read.
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

        document = {
            "estimates": {name: estimate_document(one) for name, one in found.items()},
            "prices": asdict(prices),
        }
        typer.echo(orjson.dumps({**document, "notes": notes}, option=orjson.OPT_INDENT_2))
        return
    for name, one in found.items():
        _show_estimate(name, one, prices)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _estimated(
    config: "Config", months: int, requests: tuple[int, str]
) -> "tuple[dict[str, Estimate], Prices, list[str]]":
    from dagfusion_cli.gathered_costs import read_files, read_lifecycles  # noqa: PLC0415
    from dagfusion_query.cost.estimate import (  # noqa: PLC0415  # imports numpy
        Estimate,
        estimate,
        read_prices,
    )

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
    from dagfusion_cli.gathered_costs import counted_requests  # noqa: PLC0415

    pool = _service(url, token)
    try:
        month, queries = counted_requests(_recorded(pool, QUERIES_LIMIT), now)
    finally:
        pool.close()
    return month, f"{queries:,} queries of {url}"


def queries(
    *,
    limit: QueryLimitOption = 20,
    before: BeforeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    form: FormatOption = OutputFormat.table,
) -> None:
    """List the queries of a service with their costs: the running ones, and the latest ended ones.

    A token sees its own queries, and a token with the grant * sees all. The history survives a restart of the service.
    """
    interruptibly(lambda: _show_queries(limit, before, url, token, form))


def _show_queries(limit: int, before: str | None, url: str | None, token: str | None, form: OutputFormat) -> None:
    from dagfusion_cli.output import output, query_rows  # noqa: PLC0415
    from dagfusion_client.settings import ClientSettings  # noqa: PLC0415

    where = url or ClientSettings.read(os.environ).url
    if where is None:
        raise SettingsError("queries are those of a service: give --url, or set DAGFUSION_URL")
    pool = _service(where, token)
    try:
        found = _recorded(pool, limit, before)
    finally:
        pool.close()
    output(form, sys.stdout.buffer).rows(query_rows(found))


def _recorded(pool: "ConnectionPool", limit: int, before: str | None = None) -> "list[QueryInfo]":
    """Return queries that run and the last that ended. A page may end early, so pages are read until one is empty."""
    from dagfusion_client.documents.query_documents import QueriesDocument  # noqa: PLC0415

    found: list[QueryInfo] = []
    while True:
        older = "" if before is None else f"&before={quote(before, safe='')}"
        page = pool.document(QueriesDocument, "GET", f"/v1/queries?limit={limit}{older}").queries
        found += page
        ended = [info.ended_at for info in page if info.ended_at is not None]
        limit -= len(ended)
        if limit <= 0 or not ended:
            return found
        before = ended[-1].isoformat()


def _service(url: str, token: str | None) -> "ConnectionPool":
    """Return connections to a service.

    Raises:
        SettingsError: The URL is none of HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url must be the http:// or https:// URL of a service here, got {url!r}")
    from dagfusion_client.connection_pool import ConnectionPool  # noqa: PLC0415
    from dagfusion_client.settings import ClientSettings  # noqa: PLC0415

    return ConnectionPool(url, token or ClientSettings.read(os.environ).token)


def estimate_document(found: "Estimate") -> dict[str, object]:
    """Return an estimate as the JSON of `dagfusion cost` and `dagfusion doctor` has it."""
    months = [{**asdict(month), "usd": month.usd} for month in found.months]
    return {**asdict(found), "months": months, "usd": found.usd}


def _show_estimate(name: str, found: "Estimate", prices: "Prices") -> None:
    first, last = found.months[0], found.months[-1]
    months = [("now", first)] if first is last else [("now", first), (f"in month {last.month}", last)]
    typer.echo(f"{name}: ${found.usd:,.2f} for {len(found.months)} months, at prices of {prices.region}, {prices.date}")
    for label, month in months:
        for one in month.classes:
            reading = "" if one.read_usd is None else f", and ${one.read_usd:,.4f} to read all of it once"
            typer.echo(
                f"  {label}: {one.objects:,} objects, {one.gb:,.3f} GiB {one.storage_class}: ${one.usd:,.4f} a month"
                f"{reading}"
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
