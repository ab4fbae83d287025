"""Catalogs and event logs of any size, without objects: one table by state and date, from 1970 on."""

import datetime as dt
from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import Any

from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import BATCH, Materialization
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_reference.defs.states import CODES

ASSET_KEY = ("Synthetic", "organizations")
TABLE = "local_synthetic.organizations"
FIRST_DAY = dt.date(1970, 1, 1)
SIZE_BYTES, ROWS = 9_000, 179

_FIELDS = {
    "npi": ("int64", 1_000_081_574, 1_999_925_310),
    "organization_name": ("string", "Aspen Bay Dental Care LLC", "Willow Valley Visiting Nurses PLLC"),
    "tax_id": ("string", "10-0040881", "95-9968154"),
    "taxonomy_code": ("string", "193200000X", "3336C0003X"),
    "specialty": ("string", "Ambulatory Surgery Center", "Urgent Care Clinic"),
    "zip_code": ("string", "01008", "99989"),
    "provider_count": ("int64", 1, 1441),
    "enumeration_date": ("date32[day]", "2005-05-23", "2023-12-30"),
}


def partitions(count: int) -> Iterator[tuple[str, str]]:
    """Yield `count` pairs of day and state: fifty states a day."""
    days = ((FIRST_DAY + dt.timedelta(days=day)).isoformat() for day in range(-(-count // len(CODES))))
    return islice(product(days, CODES), count)


def record(day: str, state: str) -> dict[str, Any]:
    """The `dagfusion/file` entry of a partition."""
    fields = [{"name": name, "type": kind, "nullable": True} for name, (kind, _, _) in _FIELDS.items()]
    return {
        "version": 1,
        "uri": f"s3://synthetic/organizations/state={state}/date={day}/data.parquet",
        "size_bytes": SIZE_BYTES,
        "etag": '"9b2cf535f27731c974343645a3985328"',
        "modified": "2026-01-01T00:00:00.000000Z",
        "rows": ROWS,
        "partition": [
            {"name": "state", "type": "string", "value": state},
            {"name": "date", "type": "date32[day]", "value": day},
        ],
        "schema": {"fingerprint": "07c61a45265f5a08", "fields": fields},
        "columns": {name: {"min": least, "max": most, "nulls": 0} for name, (_, least, most) in _FIELDS.items()},
    }


def events(count: int) -> Iterator[Materialization]:
    """The materializations of `count` partitions, as a reader of an event log would give them."""
    return materializations(partitions(count), 1)


def materializations(written: Iterable[tuple[str, str]], first: int) -> Iterator[Materialization]:
    """The materializations of partitions, whose events have the numbers from the first one on."""
    model = EventReader().read(record("2024-01-01", "CA"))
    for event_id, (day, state) in enumerate(written, first):
        uri = f"s3://synthetic/organizations/state={state}/date={day}/data.parquet"
        file = model._replace(uri=uri, partition=[state, day])
        yield Materialization(ASSET_KEY, event_id, f"{day}|{state}", event_id, "run", file)


def snapshot(count: int) -> Snapshot:
    """A catalog of `count` partitions."""
    made, waiting = Snapshot(0, "local"), events(count)
    while batch := list(islice(waiting, 4 * BATCH)):
        made = fold(made, batch)
    return made
