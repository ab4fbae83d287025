"""A table of two dimensions for the tests of scan planning."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from dagfusion_interop.iceberg.publisher import Published, Publisher
from tests.interop.iceberg.reading import Part, folded, publish

KINDS = {"state": "string", "day": "date32[day]"}
DAYS = [dt.date(2024, 1, day) for day in (1, 2, 3)]


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value


def lake_of(publisher: Publisher, states: Sequence[str | None] = ("CA", "NY")) -> Published:
    bounds = {"n": {"min": 1, "max": 9, "nulls": 0}}
    parts = [Part((state, as_json(day)), {"n": "int32"}, bounds) for state in states for day in DAYS]
    return publish(publisher, folded(parts, KINDS))
