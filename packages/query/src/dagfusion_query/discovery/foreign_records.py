"""Reads records of the files that other IO managers wrote from the objects.

The partition columns are those of the event and of the `name=value` folders of the object's key.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from dagfusion_client.errors import NotParquetError, UndiscoverableError
from dagfusion_contract.layout import HIVE_NULL
from dagfusion_query.discovery.footer import Columns, Described, describe
from dagfusion_query.discovery.foreign_objects import (
    ForeignObjects,
    ObjectMissingError,
    Place,
    TemporaryReadError,
    places,
    shown,
)
from dagfusion_query.discovery.record_cache import Record
from dagfusion_query.event_log.stored_event import Foreign

_FILES_AT_ONCE = 16
_TELLING = re.compile(r"\d{4}-\d{2}-\d{2}")
PARTITION_KEY = "partition_key"  # the column's name where the dimension has none


class ForeignRecords:
    """Reads the records of the objects that events name.

    Args:
        objects: The environment's.
        bucket: The one bucket that may be read; None allows any, and local files.
    """

    def __init__(self, objects: ForeignObjects, bucket: str | None) -> None:
        self._objects, self._bucket = objects, bucket

    def read(self, foreign: Foreign, partition_key: str | None) -> list[Record]:
        """Return a record for each file.

        Args:
            foreign: What the event names: an object, or a folder, whose files are then listed, once and here only.
            partition_key: Dagster's.

        Raises:
            TemporaryReadError: The object does not exist, or the store refuses the request.
            UndiscoverableError: It is not Parquet that can be read. One file that is not makes its whole folder so,
                since a part of a partition would give wrong results.
            StoreUnavailableError: The store does not answer.
        """
        meant = places(foreign.uri, self._bucket)
        for place in meant:
            if not place.is_folder:
                try:
                    described = self._describe(place)
                except ObjectMissingError:
                    continue
                return [described.with_partition(_columns(place, foreign, partition_key))]
        for place in meant:
            try:
                files = self._objects.parquet_files(place.folder)
            except ObjectMissingError:
                continue
            return self._folder(place.folder, _members(place.folder, files, foreign, partition_key))
        raise TemporaryReadError(f"{shown(meant[0].uri)} is gone: there is no object and no folder of that name")

    def _folder(self, folder: Place, members: Sequence[tuple[Place, Columns]]) -> list[Record]:
        files = [place for place, _ in members]
        with ThreadPoolExecutor(min(_FILES_AT_ONCE, len(files)), "dagfusion-folder") as pool:
            described = list(pool.map(self._describe_member, files))
        records = []
        layouts = set()
        for (place, columns), file in zip(members, described, strict=True):
            own = _own_columns(place.key[len(folder.key) :], file, columns)
            layouts.add(tuple(name for name, _ in columns + own))
            records.append(file.with_partition(columns + own))
        if len(layouts) > 1:
            raise UndiscoverableError(
                f"the files of {shown(folder.uri)} lie in folders of different columns: "
                f"{' and '.join(str(list(names)) for names in sorted(layouts))}"
            )
        return records

    def _describe_member(self, place: Place) -> Described:
        try:
            return self._describe(place)
        except ObjectMissingError:
            raise TemporaryReadError(f"{shown(place.uri)} went while its folder was looked at") from None
        except UndiscoverableError as error:
            raise UndiscoverableError(f"{shown(place.uri)}: {error}") from error

    def _describe(self, place: Place) -> Described:
        return describe(place.uri, self._objects.tail(place))


def event_columns(partition_key: str | None, dimensions: Sequence[tuple[str, str]], key: str) -> Columns:
    """Return the partition columns of an event.

    All of them are strings: the event has the values as text, and readers of Hive folders disagree on their types.

    Args:
        partition_key: Dagster's; the values of several dimensions are joined by `|`, in the order of their names.
        dimensions: Name and value of each dimension, where the event tells.
        key: The key of the object or folder. Its `name=value` segments name the dimensions where the event does not,
            and order them where it does.

    Returns:
        Names and values in path order; none for an unpartitioned materialization; `partition_key` where no name is
        known.
    """
    if partition_key is None:
        return ()
    segments = hive_segments(key)
    if dimensions:
        order = [name for name, _ in segments]
        if {name for name, _ in dimensions} <= set(order):
            return tuple(sorted(dimensions, key=lambda column: order.index(column[0])))
        return tuple(dimensions)
    whole = [segment for segment in segments if segment[1] == partition_key]
    if whole:
        return (whole[-1],)
    values = partition_key.split("|")
    found = tuple(segment for segment in segments if segment[1] in values)
    if [value for _, value in sorted(found)] == values and len(values) > 1:
        return found
    return ((PARTITION_KEY, partition_key),)


def hive_segments(key: str) -> Columns:
    """Return the `name=value` folders of a key, outermost first, each name once."""
    found: dict[str, str | None] = {}
    for segment in key.split("/")[:-1]:
        name, equals, value = segment.partition("=")
        if name and equals:
            found[unquote(name)] = None if value == HIVE_NULL else unquote(value)
    return tuple(found.items())


def _columns(place: Place, foreign: Foreign, partition_key: str | None) -> Columns:
    return event_columns(partition_key, foreign.dimensions, place.key)


def _members(
    folder: Place, files: Sequence[Place], foreign: Foreign, partition_key: str | None
) -> list[tuple[Place, Columns]]:
    """Return the files of a folder that are the partition's, with its columns.

    A folder may be the whole table's: then the `name=value` folders in it say whose its files are. They are believed
    where the event names its dimensions, or the value is one that only a partition has; `1` may be anything's value.
    """
    if not files:
        raise NotParquetError(
            f"{NotParquetError.PREFIX}the folder {shown(folder.uri)} holds no object whose name ends in .parquet"
        )
    if partition_key is None:
        return [(file, ()) for file in files]
    members = [(file, _columns(file, foreign, partition_key)) for file in files]
    own = _columns(folder, foreign, partition_key)
    if foreign.dimensions:
        dimensions = dict(foreign.dimensions)
        below = [hive_segments(file.key[len(folder.key) :]) for file in files]
        is_named = [all(dimensions.get(name, value) == value for name, value in segments) for segments in below]
        if not any(is_named):
            raise UndiscoverableError(f"the folder {shown(folder.uri)} holds no file of partition {partition_key!r}")
        return [member for member, is_own in zip(members, is_named, strict=True) if is_own]
    with_own_key = [member for member in members if PARTITION_KEY not in dict(member[1])]
    return with_own_key if with_own_key and _TELLING.search(partition_key) else [(file, own) for file in files]


def _own_columns(name: str, file: Described, columns: Columns) -> Columns:
    """Return the columns that only the folders below the event's one tell."""
    names = {column for column, _ in columns} | set(file.schema.names)
    return tuple(segment for segment in hive_segments(name) if segment[0] not in names)
