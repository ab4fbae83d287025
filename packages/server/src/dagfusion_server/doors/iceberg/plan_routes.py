"""Scan planning of the Iceberg REST protocol: the service names the files of a scan, page by page."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from starlette.requests import Request

from dagfusion_client.errors import BadRequestError
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_interop.iceberg.scan_plan import PlannedScan, TableSnapshot, read_token, scan_tasks
from dagfusion_query.catalog.model import Table
from dagfusion_server.doors.iceberg.visible_tables import MissingError

BODY_BYTES = 1 << 20
_PLANNING = asyncio.Semaphore(2)  # plans at a time: each takes a core


@dataclass(frozen=True)
class PlannedTable:
    """A table whose scans are planned.

    Attributes:
        table: The table now.
        publisher: Writes its metadata, and knows the last versions.
        publish: Returns the version of the table now.
        older: Returns an older snapshot that a version's metadata offers, by its id; None if it offers none.
    """

    table: Table
    publisher: Publisher
    publish: Callable[[], Awaitable[Published]]
    older: Callable[[Published, int], Awaitable[TableSnapshot | None]]

    async def snapshot(self, snapshot_id: Any) -> TableSnapshot | None:
        """Return the snapshot with an id, the current one for None; None if the table no longer has it."""
        recent = None if snapshot_id is None else self.publisher.recent(self.table.name, snapshot_id)
        if recent is not None:
            return recent.table_snapshot
        current = await self.publish()
        if snapshot_id in (None, current.snapshot_id):
            return current.table_snapshot
        return await self.older(current, snapshot_id)

    async def tasks(self, request: Request, scan: PlannedScan, snapshot: TableSnapshot) -> dict[str, Any]:
        """Return a page of a plan."""
        others: Collection[str] = ()
        if snapshot.table is not self.table and not scan.uses_snapshot_schema:
            others = {*self.table.file_schema.names, *self.table.partition_schema.names}
        # PyIceberg takes dates and times as numbers. From text it reads no rows, without an error.
        has_numbers = request.headers.get("user-agent", "").startswith("PyIceberg/")
        async with _PLANNING:
            return await asyncio.to_thread(scan_tasks, scan, snapshot, others=others, has_numbers=has_numbers)


async def plan(request: Request, body: bytes, planned: PlannedTable) -> dict[str, Any]:
    """Answer a request for a plan. Every plan is complete at once.

    Raises:
        BadRequestError: The request does not follow the protocol, or the catalog does not plan such scans.
    """
    options = _read(body)
    if options.get("start-snapshot-id") is not None or options.get("end-snapshot-id") is not None:
        raise BadRequestError("scans of the changes between two snapshots are not planned: plan them in the client")
    snapshot = await planned.snapshot(options.get("snapshot-id"))
    if snapshot is None:
        raise BadRequestError(
            f"table {planned.table.name} has no snapshot {options.get('snapshot-id')!r:.40} any more: load the table"
            " again for those that it has"
        )
    scan = PlannedScan(
        snapshot.snapshot_id,
        options.get("filter"),
        is_case_sensitive=options.get("case-sensitive", True) is not False,
        uses_snapshot_schema=options.get("use-snapshot-schema", False) is True,
    )
    plan_id = sha256(scan.token().encode()).hexdigest()[:32]  # the protocol requires one
    return {"status": "completed", "plan-id": plan_id, **await planned.tasks(request, scan, snapshot)}


async def more_tasks(request: Request, body: bytes, planned: PlannedTable) -> dict[str, Any]:
    """Answer a request for the next page of a plan.

    Raises:
        BadRequestError: The request does not follow the protocol.
        MissingError: The snapshot of the plan no longer exists.
    """
    scan = read_token(_read(body).get("plan-task"))
    snapshot = await planned.snapshot(scan.snapshot_id)
    if snapshot is None:
        raise MissingError(
            f"table {planned.table.name} does not have the snapshot of the plan any more: plan the scan again",
            "NoSuchPlanTaskException",
        )
    return await planned.tasks(request, scan, snapshot)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise BadRequestError("the body is not a JSON object")
    return found
