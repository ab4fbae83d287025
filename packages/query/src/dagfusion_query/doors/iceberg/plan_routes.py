"""Scan planning of the Iceberg REST protocol: the service names the files of a scan, page by page."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request

from dagfusion_query.catalog.model import Table
from dagfusion_query.doors.iceberg.visible_tables import MissingError
from dagfusion_query.errors import BadRequestError
from dagfusion_query.iceberg.publisher import Published, Publisher
from dagfusion_query.iceberg.scan_plan import PlannedScan, read_token, scan_tasks

BODY_BYTES = 1 << 20
_PLANNING = asyncio.Semaphore(2)  # plans at a time: each takes a core
Publish = Callable[[], Awaitable[Published]]


async def plan(request: Request, body: bytes, publish: Publish, table: Table, publisher: Publisher) -> dict[str, Any]:
    """Answer a request for a plan. Every plan is complete at once.

    Raises:
        BadRequestError: The request does not follow the protocol, or is for what this catalog does not plan.
    """
    options = _read(body)
    if options.get("start-snapshot-id") is not None or options.get("end-snapshot-id") is not None:
        raise BadRequestError("scans of the changes between two snapshots are not planned: plan them in the client")
    snapshot_id = options.get("snapshot-id")
    version = None if snapshot_id is None else publisher.recent(table.name, snapshot_id)
    if version is None:
        version = await publish()
    if snapshot_id not in (None, version.snapshot_id):
        raise BadRequestError(
            f"snapshot {snapshot_id!r:.40} is neither the current one of table {table.name} nor one of the last"
            " ones: load the table again"
        )
    scan = PlannedScan(version.snapshot_id, options.get("filter"), options.get("case-sensitive", True) is not False)
    return {"status": "completed", **await _tasks(request, scan, version)}


async def more_tasks(request: Request, body: bytes, table: Table, publisher: Publisher) -> dict[str, Any]:
    """Answer a request for the next page of a plan.

    Raises:
        BadRequestError: The request does not follow the protocol.
        MissingError: The version that was planned is not known any more.
    """
    scan = read_token(_read(body).get("plan-task"))
    version = publisher.recent(table.name, scan.snapshot_id)
    if version is None:
        raise MissingError(
            f"table {table.name} has changed several times since the scan was planned: plan it again",
            "NoSuchPlanTaskException",
        )
    return await _tasks(request, scan, version)


async def _tasks(request: Request, scan: PlannedScan, version: Published) -> dict[str, Any]:
    # PyIceberg takes dates and times as numbers. From text it reads no rows, without an error.
    has_numbers = request.headers.get("user-agent", "").startswith("PyIceberg/")
    async with _PLANNING:
        return await asyncio.to_thread(scan_tasks, scan, version, has_numbers=has_numbers)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise BadRequestError("the body is not a JSON object")
    return found
