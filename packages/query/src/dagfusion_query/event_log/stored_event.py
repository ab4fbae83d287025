"""Reads a stored event of Dagster: the record of an IO manager of DagFusion, a view, a tombstone, or named files."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import orjson

from dagfusion_client.errors import EventRecordError, MalformedRecordError, RecordVersionError
from dagfusion_contract import errors as contract
from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, LargeObject, read_consolidated
from dagfusion_contract.metadata_uri import uri_in_metadata
from dagfusion_contract.record import ENTRY, DataFile, RecordReader
from dagfusion_contract.tombstone import TOMBSTONE_ENTRY, Tombstone, read_tombstone
from dagfusion_contract.uri import bucket_url
from dagfusion_contract.view import VIEW_ENTRY, View, read_view

_log = logging.getLogger(__name__)
T = TypeVar("T")

# An event is several times as long as its record, so the record is cut out where Dagster's serializer puts it; an event
# that is written in another way is parsed as a whole. Inside a JSON string the quotes would be escaped.
ENTRY_START = (
    '{"__class__": "EventMetadataEntry", "description": null, '
    '"entry_data": {"__class__": "JsonMetadataEntryData", "data": '
)
ENTRY_END = f'}}, "label": "{ENTRY}"}}'


class DataFiles(NamedTuple):
    """Several objects that one materialization wrote; all of them are its partition."""

    files: Sequence[DataFile]


class Foreign(NamedTuple):
    """The files of another IO manager, as the event names them. They have not been read yet.

    Attributes:
        uri: As the metadata has it: an object, a folder, or nothing that can be read.
        dimensions: Name and value of each dimension of a multi-dimensional partition, where the event tells.
    """

    uri: str
    dimensions: tuple[tuple[str, str], ...]


class EventReader:
    """Reads stored events and the records in them.

    Args:
        metadata_keys: The metadata that may name what another IO manager wrote, first choice first.
        bucket: The one bucket that files may be in; None allows any, and local files.
    """

    def __init__(self, metadata_keys: Sequence[str] = (), bucket: str | None = None) -> None:
        self._records = RecordReader(bucket, encode=partial(orjson.dumps, option=orjson.OPT_SORT_KEYS))
        self._metadata_keys, self._bucket = metadata_keys, bucket
        self._readers: Mapping[str, Callable[[object], DataFile | View | Tombstone]] = {
            ENTRY: self._records.read,
            VIEW_ENTRY: read_view,
            TOMBSTONE_ENTRY: read_tombstone,
        }

    @property
    def rules(self) -> str:
        """The metadata keys and the bucket, as a part of the identity of what is read; empty if it has neither."""
        return "|".join([*self._metadata_keys, *(() if self._bucket is None else (bucket_url(self._bucket),))])

    @property
    def naming(self) -> str:
        """A regular expression, for Python and PostgreSQL: it finds every event with a file, a view or a tombstone.

        It may find others too.
        """
        labels = "|".join(re.escape(json.dumps(label)[1:-1]) for label in (*self._readers, *self._metadata_keys))
        return rf'"label"\s*:\s*"({labels})"'

    def from_event(self, event: str) -> DataFile | View | Tombstone | Foreign | EventRecordError | None:
        """Read the record of one stored ASSET_MATERIALIZATION event.

        Args:
            event: The event as Dagster stores it, JSON.

        Returns:
            The file, the view or the tombstone; what another IO manager wrote, or None, when the event has none of
            these entries; the error when it has one that cannot be used, so that one bad event hides nothing
            else.
        """
        try:
            found = _cut_record(event)
            if found is not None:
                return self.read(found[0])
            materialization = _parse(event)["dagster_event"]["event_specific_data"]["materialization"]
            for entry in materialization["metadata_entries"]:
                read = self._readers.get(entry["label"])
                if read is not None:
                    return _read(read, _strict(entry["entry_data"]["data"]))
            return find_foreign(materialization, self._metadata_keys)
        except EventRecordError as error:
            return error
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            return MalformedRecordError(f"the stored event is not one that this reader knows: {error!r:.500}")

    def from_observation(self, event: str) -> tuple[LargeObject, ...]:
        """Read the large objects of one stored ASSET_OBSERVATION event; none where it is no consolidation.

        A record that cannot be used is logged and left out: the partitions are read from their small objects then.
        """
        try:
            observation = _parse(event)["dagster_event"]["event_specific_data"]["asset_observation"]
            for entry in observation["metadata_entries"]:
                if entry["label"] == CONSOLIDATED_ENTRY:
                    return read_consolidated(_strict(entry["entry_data"]["data"]), self._bucket)
        except (contract.ContractError, ValueError, RecursionError, KeyError, TypeError) as error:
            _log.warning("a consolidation is not used: %.500s", error)
        return ()

    def from_cut(self, text: str) -> DataFile | EventRecordError:
        """Read a record that was cut out of its event, between `ENTRY_START` and `ENTRY_END`.

        Raises:
            ValueError: The text is not JSON, because it was cut in the wrong places: read the event as a whole.
        """
        record = orjson.loads(text)
        try:
            return self.read(record)
        except EventRecordError as error:
            return error

    def read(self, record: object) -> DataFile:
        """Read one `dagfusion/file` record.

        Raises:
            RecordVersionError: Its version is not 1.
            MalformedRecordError: It breaks the contract; the message names the field.
        """
        return _read(self._records.read, record)


def _read(read: Callable[[object], T], record: object) -> T:
    """Read a record, and raise what is wrong with it as an `EventRecordError`."""
    try:
        return read(record)
    except contract.RecordVersionError as error:
        raise RecordVersionError(str(error)) from error
    except contract.MalformedRecordError as error:
        raise MalformedRecordError(str(error)) from error


def _parse(event: str) -> Any:
    """Parse a stored event. Dagster writes Python's JSON, which also has NaN, infinities and lone surrogates."""
    try:
        return orjson.loads(event)
    except orjson.JSONDecodeError:
        return json.loads(event)


def _strict(value: Any) -> Any:
    """Return a part of a parsed event.

    Raises:
        ValueError: The text has a value that only Python's JSON has.
    """
    return orjson.loads(json.dumps(value, allow_nan=False))


def find_foreign(materialization: Mapping[str, Any], keys: Sequence[str]) -> Foreign | None:
    """Return what a materialization's metadata says was written; None when it says nothing of that kind.

    Args:
        materialization: As Dagster serializes it.
        keys: The metadata that may say it. The first that names a place counts, else the first that is there.
    """
    if not keys:
        return None
    entries = ((entry["label"], _text(entry["entry_data"])) for entry in materialization["metadata_entries"])
    place = uri_in_metadata({label: text for label, text in entries if text is not None}, keys)
    if place is None:
        return None
    tags = materialization.get("tags") or {}
    of_partition = [[tag.removeprefix(_DIMENSION), tags[tag]] for tag in sorted(tags) if tag.startswith(_DIMENSION)]
    return Foreign(_strict(place), tuple((name, value) for name, value in _strict(of_partition)))


def _text(data: Mapping[str, Any]) -> str | None:
    """Return the value of a path, URL or text; None for any other metadata."""
    value = data.get(_TEXTS.get(data["__class__"], ""))
    return value.strip() if isinstance(value, str) else None


_DIMENSION = "dagster/partition/"
_TEXTS = {"PathMetadataEntryData": "path", "UrlMetadataEntryData": "url", "TextMetadataEntryData": "text"}


def _cut_record(event: str) -> tuple[object] | None:
    """Return the entry's data, parsed, in a tuple; None when it is not where it usually is."""
    end = event.find(ENTRY_END)
    if end > 0 and event.find(ENTRY_END, end + 1) < 0:
        start = event.rfind(ENTRY_START, 0, end)
        if start > 0:
            with suppress(orjson.JSONDecodeError):
                return (orjson.loads(event[start + len(ENTRY_START) : end]),)
    return None
