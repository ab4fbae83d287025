"""A consolidation: large objects that hold the rows of many partitions, as the entry `dagfusion/consolidated`. Pure.

The entry is on an observation of the asset, so no materialization changes: the small objects stay the table, and a
reader that does not know the entry loses nothing. A row group holds whole partitions. It may be read in place of their
small objects while each of its events is its partition's latest.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from dagfusion_contract.errors import MalformedRecordError
from dagfusion_contract.record import CHECKSUM, SCHEMES, versioned
from dagfusion_contract.uri import bucket_url

CONSOLIDATED_ENTRY = "dagfusion/consolidated"
CONSOLIDATED_VERSION = 1
TIMES = 1 << 53  # JSON's integers are exact below it
CONSOLIDATIONS = 500  # the latest so many of an asset count
_LARGEST = 1 << 63
_LAST_YEAR = 2262  # of nanoseconds since 1970 in 64 bits
_EVENTS = re.compile(r"\d{1,19}(-\d{1,19})?(,\d{1,19}(-\d{1,19})?)*")


@dataclass(frozen=True)
class RowGroup:
    """A row group of a large object.

    Attributes:
        offset: Where its first page begins: the dictionary page of the first column, else the data page.
        rows: Its rows.
        events: The ids of the materializations whose rows it holds, ascending.
        times: The sum of their times in microseconds since 1970, modulo 2^53. It guards against
            SQLite, which may reuse the ids of wiped events.
    """

    offset: int
    rows: int
    events: tuple[int, ...]
    times: int


@dataclass(frozen=True)
class LargeObject:
    """One object of a consolidation.

    Attributes:
        modified: ISO 8601 in UTC; when the store took the object.
        partition: Name and type of the partition columns, which are columns of the file.
        schema: The columns of the file, as `record.schema_entry` writes them.
        has_field_ids: All columns, partition columns included, have the ids of `field_ids.with_field_ids`.
    """

    uri: str
    size_bytes: int
    etag: str | None
    checksum: str | None
    modified: str
    partition: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any]
    row_groups: tuple[RowGroup, ...]
    has_field_ids: bool = False


def utc_text(moment: datetime) -> str:
    """Return an aware moment as records write it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def consolidated_entry(objects: Iterable[LargeObject]) -> dict[str, Any]:
    """Return the entry `dagfusion/consolidated` for some large objects."""
    return {"version": CONSOLIDATED_VERSION, "objects": [_object_entry(one) for one in objects]}


def read_consolidated(record: object, bucket: str | None = None) -> tuple[LargeObject, ...]:
    """Read an entry.

    Args:
        record: The entry, parsed from JSON.
        bucket: The one bucket that objects may be in; None allows any, and local files.

    Raises:
        RecordVersionError: Its version is not 1.
        MalformedRecordError: It breaks the contract; the message names the field.
    """
    record = versioned(record, CONSOLIDATED_ENTRY, CONSOLIDATED_VERSION)
    places = SCHEMES if bucket is None else (bucket_url(bucket),)
    return tuple(
        _read_object(one, f"{CONSOLIDATED_ENTRY}.objects[{number}]", places)
        for number, one in enumerate(_field(record, "objects", list, CONSOLIDATED_ENTRY))
    )


def events_text(events: Sequence[int]) -> str:
    """Return ascending ids as text: `17,20-64`.

    >>> events_text([17, 20, 21, 22, 30])
    '17,20-22,30'
    """
    runs: list[list[int]] = []
    for event in events:
        if runs and event == runs[-1][1] + 1:
            runs[-1][1] = event
        else:
            runs.append([event, event])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_events(text: str) -> tuple[int, ...]:
    """Undo `events_text`.

    Raises:
        ValueError: The text is something else, or its ids do not ascend.
    """
    if not _EVENTS.fullmatch(text):
        raise ValueError("it is not a list of ids")
    bounds = [tuple(map(int, run.split("-"))) for run in text.split(",")]
    ascending = all(run[0] <= run[-1] for run in bounds) and all(a[-1] < b[0] for a, b in pairwise(bounds))
    if not ascending or bounds[-1][-1] >= _LARGEST or sum(run[-1] - run[0] for run in bounds) > _MOST_EVENTS:
        raise ValueError("its ids do not ascend, or are too many")
    return tuple(event for run in bounds for event in range(run[0], run[-1] + 1))


_MOST_EVENTS = 10_000_000  # a short text can name more than memory holds


def _object_entry(one: LargeObject) -> dict[str, Any]:
    return {
        "uri": one.uri,
        "size_bytes": one.size_bytes,
        "etag": one.etag,
        **({"checksum": one.checksum} if one.checksum else {}),
        "modified": one.modified,
        "partition": [dict(column) for column in one.partition],
        "schema": dict(one.schema),
        **({"field_ids": True} if one.has_field_ids else {}),
        "row_groups": [
            {"offset": g.offset, "rows": g.rows, "events": events_text(g.events), "times": g.times}
            for g in one.row_groups
        ],
    }


def _read_object(record: object, where: str, places: Sequence[str]) -> LargeObject:
    if not isinstance(record, Mapping):
        raise MalformedRecordError(f"{where} must be an object, got {record!r:.200}")
    uri, etag, checksum = _field(record, "uri", str, where), record.get("etag"), record.get("checksum")
    if not uri.startswith(tuple(places)):
        raise MalformedRecordError(f"{where}.uri must start with one of {', '.join(places)}; got {uri!r:.200}")
    if not isinstance(etag, str | None):
        raise MalformedRecordError(f"{where}.etag must be a string or null, got {etag!r:.200}")
    if checksum is not None and not (isinstance(checksum, str) and CHECKSUM.fullmatch(checksum)):
        raise MalformedRecordError(f"{where}.checksum must be sha256: and 64 hexadecimal digits, got {checksum!r:.200}")
    has_field_ids = record.get("field_ids", False)
    if type(has_field_ids) is not bool:
        raise MalformedRecordError(f"{where}.field_ids must be true or false, got {has_field_ids!r:.200}")
    groups = enumerate(_field(record, "row_groups", list, where))
    return LargeObject(
        uri,
        _count(record, "size_bytes", where),
        etag,
        checksum,
        _moment(record, where),
        _field(record, "partition", list, where),
        _field(record, "schema", dict, where),
        tuple(_read_row_group(group, f"{where}.row_groups[{number}]") for number, group in groups),
        has_field_ids,
    )


def _read_row_group(record: object, where: str) -> RowGroup:
    if not isinstance(record, Mapping):
        raise MalformedRecordError(f"{where} must be an object, got {record!r:.200}")
    text = _field(record, "events", str, where)
    try:
        events = read_events(text)
    except ValueError as error:
        raise MalformedRecordError(f"{where}.events must be ascending ids such as '17,20-64': {error}") from None
    return RowGroup(
        _count(record, "offset", where), _count(record, "rows", where), events, _count(record, "times", where)
    )


def _field(record: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise MalformedRecordError(f"{where}.{name} must be {_JSON[kind]}, got {value!r:.200}")
    return value


def _moment(record: Mapping[str, Any], where: str) -> str:
    text: str = _field(record, "modified", str, where)
    try:
        is_moment = text.endswith("Z") and datetime.fromisoformat(text).year < _LAST_YEAR
    except ValueError:
        is_moment = False
    if not is_moment:
        raise MalformedRecordError(f"{where}.modified must be a moment such as 2024-01-15T12:00:00Z, got {text!r:.200}")
    return text


def _count(record: Mapping[str, Any], name: str, where: str) -> int:
    value: int = _field(record, name, int, where)
    if not 0 <= value < _LARGEST:
        raise MalformedRecordError(f"{where}.{name} must be a count from 0 to 2^63 - 1, got {value}")
    return value


_JSON = {str: "a string", int: "an integer", list: "a list", dict: "an object"}
