"""Records of the files that other IO managers wrote: read from the objects, and kept so that no footer is read twice.

The partition columns are those of the event and of the `name=value` folders of the object's key.

The records are kept in one small SQLite file of the state folder:

    learnt   by event: the records of its files, or the reason why there are none
    waiting  events from the event log whose records have not been read, or not been published yet

SQLite may use an event's id again after rows were deleted, so the other columns of the event are compared, too.
"""

import logging
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

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
from dagfusion_query.errors import NotParquetError, SnapshotError, UndiscoverableError
from dagfusion_query.event_log.protocol import Materialization
from dagfusion_query.event_log.stored_event import Foreign

_log = logging.getLogger(__name__)

_FILES_AT_ONCE = 16
_TELLING = re.compile(r"\d{4}-\d{2}-\d{2}")
Record = dict[str, Any]
PARTITION_KEY = "partition_key"  # the column's name where the dimension has none
FILE_NAME = "discovered.sqlite"
_FORMAT = 2
_BUSY_TIMEOUT_S = 10
_IDS_AT_ONCE = 500
_TABLES = """
create table if not exists learnt (event_id integer primary key, at_us integer, uri text, document blob);
create table if not exists waiting (event_id integer primary key, document blob);
create table if not exists about (identity text);
"""


class RecordReader:
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
            TemporaryReadError: It is not there, or the store refuses to give it.
            UndiscoverableError: It is not Parquet that can be read. One file that is not makes its whole folder so,
                since a part of a partition would be a wrong answer.
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
        key: Of the object or folder. Its `name=value` segments name the dimensions where the event does not, and order
            them where it does.

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
        wanted = dict(foreign.dimensions)
        below = [hive_segments(file.key[len(folder.key) :]) for file in files]
        told = [all(wanted.get(name, value) == value for name, value in segments) for segments in below]
        if not any(told):
            raise UndiscoverableError(f"the folder {shown(folder.uri)} holds no file of partition {partition_key!r}")
        return [member for member, is_own in zip(members, told, strict=True) if is_own]
    named = [member for member in members if PARTITION_KEY not in dict(member[1])]
    return named if named and _TELLING.search(partition_key) else [(file, own) for file in files]


def _own_columns(name: str, file: Described, columns: Columns) -> Columns:
    """Return the columns that only the folders below the event's one tell."""
    known = {column for column, _ in columns} | set(file.schema.names)
    return tuple(segment for segment in hive_segments(name) if segment[0] not in known)


class Refusal(NamedTuple):
    """The reason why no file of a materialization can be read."""

    reason: str
    is_temporary: bool = False  # it may be read later

    def error(self) -> UndiscoverableError:
        """Return the error that says so; the reason, which is what is stored, has its kind."""
        is_other = self.reason.startswith(NotParquetError.PREFIX)
        return NotParquetError(self.reason) if is_other else UndiscoverableError(self.reason)


Outcome = Sequence[Record] | Refusal
"""The records of a materialization's files, or why there are none."""


class RecordCache:
    """Remembers outcomes. Used by one thread at a time.

    Args:
        state_dir: Where the file is; None keeps it in memory.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._path = None if state_dir is None else state_dir / FILE_NAME
        self._database = self._open()
        self._new: dict[int, tuple[int, int, str, bytes]] = {}
        self._waiting: dict[int, bytes] = {}
        self._done: set[int] = set()
        self._gone: set[int] = set()

    def recognise(self, identity: str) -> list[Materialization]:
        """Forget what is of another event log, and return the events that were waiting when this one was left."""
        with self._access(), self._database:
            if self._database.execute("select identity from about").fetchall() != [(identity,)]:
                for table in ("learnt", "waiting", "about"):
                    self._database.execute(f"delete from {table}")
                self._database.execute("insert into about values (?)", (identity,))
            rows = self._database.execute("select event_id, document from waiting").fetchall()
        return [_event(event_id, orjson.loads(document)) for event_id, document in rows]

    def find(self, events: Iterable[Materialization]) -> dict[int, Outcome]:
        """Return what is known of events, by event id."""
        wanted = {event.event_id: event for event in events}
        ids = [*wanted]
        rows: list[tuple[int, int, str, bytes]] = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"select event_id, at_us, uri, document from learnt where event_id in ({marks})"
            with self._access():
                rows += self._database.execute(query, some).fetchall()
        rows += [self._new[event_id] for event_id in ids if event_id in self._new]
        return {
            event_id: _outcome(document)
            for event_id, at_us, uri, document in rows
            if (at_us, uri) == (wanted[event_id].at_us, _uri(wanted[event_id]))
        }

    def wait_for(self, events: Iterable[Materialization]) -> None:
        """Note events that have still to be learnt."""
        for event in events:
            self._waiting[event.event_id] = _document(event)
            self._done.discard(event.event_id)
            self._gone.discard(event.event_id)

    def remember(self, event: Materialization, outcome: Outcome) -> None:
        """Note what was learnt."""
        said = {"error": outcome.reason} if isinstance(outcome, Refusal) else outcome
        packed = zlib.compress(orjson.dumps(said), 1)
        self._new[event.event_id] = (event.event_id, event.at_us, _uri(event), packed)

    def published(self, event_ids: Iterable[int]) -> None:
        """Note events that need not wait any more: what was learnt of them is in a stored snapshot."""
        self._done.update(event_ids)

    def keep_only(self, event_ids: set[int]) -> None:
        """Forget all other events, with the next `flush`: a full sync found that they do not count any more."""
        with self._access():
            rows = self._database.execute("select event_id from learnt union select event_id from waiting").fetchall()
        self._gone = {event_id for (event_id,) in rows} - event_ids
        for kept in (self._new, self._waiting):
            for event_id in kept.keys() - event_ids:
                del kept[event_id]

    def flush(self) -> None:
        """Write what was noted.

        Raises:
            SnapshotError: It cannot be written; it is kept for the next time.
        """
        if not (self._new or self._waiting or self._done or self._gone):
            return
        done, gone = [(i,) for i in self._done | self._gone], [(i,) for i in self._gone]
        with self._access(), self._database:
            self._database.executemany("delete from learnt where event_id = ?", gone)
            self._database.executemany("insert or replace into learnt values (?, ?, ?, ?)", self._new.values())
            self._database.executemany("insert or replace into waiting values (?, ?)", self._waiting.items())
            self._database.executemany("delete from waiting where event_id = ?", done)
        for noted in (self._new, self._waiting, self._done, self._gone):
            noted.clear()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _access(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise SnapshotError(f"the records of discovered files cannot be stored in {self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        with self._access():
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return _connect(self._path)
            except sqlite3.DatabaseError as error:
                if self._path is None or isinstance(error, sqlite3.OperationalError):
                    raise
                _log.warning("%s is damaged; its files are discovered again: %s", self._path, error)
                self._path.unlink(missing_ok=True)
            return _connect(self._path)


def _connect(path: Path | None) -> sqlite3.Connection:
    where = ":memory:" if path is None else str(path)
    database = sqlite3.connect(where, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        with closing(database.execute("pragma user_version")) as rows:
            version = rows.fetchone()[0]
        if version != _FORMAT:
            for table in ("learnt", "waiting", "about"):
                database.execute(f"drop table if exists {table}")
            database.executescript(f"{_TABLES} pragma user_version = {_FORMAT};")  # waits for the disk four times
    except BaseException:
        database.close()
        raise
    return database


def _outcome(document: bytes) -> Outcome:
    said = orjson.loads(zlib.decompress(document))
    return Refusal(said["error"]) if isinstance(said, dict) else said


def _uri(event: Materialization) -> str:
    return event.file.uri if isinstance(event.file, Foreign) else ""


def _document(event: Materialization) -> bytes:
    foreign = [*event.file] if isinstance(event.file, Foreign) else ["", []]
    return orjson.dumps([event.asset_key, event.partition_key, event.at_us, event.run_id, foreign])


def _event(event_id: int, said: list[Any]) -> Materialization:
    asset_key, partition_key, at_us, run_id, (uri, dimensions) = said
    foreign = Foreign(uri, tuple((name, value) for name, value in dimensions))
    return Materialization(tuple(asset_key), event_id, partition_key, at_us, run_id, foreign)
