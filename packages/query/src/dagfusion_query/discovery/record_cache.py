"""Keeps the records of the files that other IO managers wrote, so that no footer is read twice.

The records are kept in one small SQLite file of the state folder:

    records  by event: the records of its files, or the reason why there are none
    waiting  events from the event log whose records have not been read, or not been published yet

SQLite may use an event's id again after rows were deleted, so the other columns of the event are compared, too.
"""

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from dagfusion_client.errors import NotParquetError, SnapshotError, UndiscoverableError
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.event_log.stored_event import Foreign

_log = logging.getLogger(__name__)

Record = dict[str, Any]
RECORDS_FILE = "discovered.sqlite"
_FORMAT = 3
_NAMED_LEARNT = 2  # the format in which the table `records` was called `learnt`
_BUSY_TIMEOUT_S = 10
_IDS_AT_ONCE = 500
_TABLES = """
create table if not exists records (event_id integer primary key, at_us integer, uri text, document blob);
create table if not exists waiting (event_id integer primary key, document blob);
create table if not exists about (identity text);
"""


class Refusal(NamedTuple):
    """The reason why no file of a materialization can be read."""

    reason: str
    is_temporary: bool = False  # it may be read later

    def error(self) -> UndiscoverableError:
        """Return the error that says so; the reason, which is what is stored, has its kind."""
        reason = self.reason.removeprefix("it is ")  # which an earlier version wrote before it
        is_other = reason.startswith(NotParquetError.PREFIX)
        return NotParquetError(self.reason) if is_other else UndiscoverableError(self.reason)


Outcome = Sequence[Record] | Refusal
"""The records of a materialization's files, or why there are none."""


class RecordCache:
    """Remembers outcomes. Used by one thread at a time.

    Args:
        state_dir: Where the file is; None keeps it in memory.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._path = None if state_dir is None else state_dir / RECORDS_FILE
        self._database = self._open()
        self._new: dict[int, tuple[int, int, str, bytes]] = {}
        self._waiting: dict[int, bytes] = {}
        self._done: set[int] = set()
        self._gone: set[int] = set()

    def recognise(self, identity: str) -> list[Materialization]:
        """Forget what is of another event log, and return the events that were waiting when this one was left."""
        with self._access(), self._database:
            if self._database.execute("select identity from about").fetchall() != [(identity,)]:
                for table in ("records", "waiting", "about"):
                    self._database.execute(f"delete from {table}")
                self._database.execute("insert into about values (?)", (identity,))
            rows = self._database.execute("select event_id, document from waiting").fetchall()
        return [_event(event_id, orjson.loads(document)) for event_id, document in rows]

    def find(self, events: Iterable[Materialization]) -> dict[int, Outcome]:
        """Return what is known of events, by event id."""
        by_id = {event.event_id: event for event in events}
        ids = [*by_id]
        rows: list[tuple[int, int, str, bytes]] = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"select event_id, at_us, uri, document from records where event_id in ({marks})"
            with self._access():
                rows += self._database.execute(query, some).fetchall()
        rows += [self._new[event_id] for event_id in ids if event_id in self._new]
        return {
            event_id: _outcome(document)
            for event_id, at_us, uri, document in rows
            if (at_us, uri) == (by_id[event_id].at_us, _uri(by_id[event_id]))
        }

    def wait_for(self, events: Iterable[Materialization]) -> None:
        """Queue events for discovery."""
        for event in events:
            self._waiting[event.event_id] = _document(event)
            self._done.discard(event.event_id)
            self._gone.discard(event.event_id)

    def remember(self, event: Materialization, outcome: Outcome) -> None:
        """Store discovered records."""
        document = {"error": outcome.reason} if isinstance(outcome, Refusal) else outcome
        packed = zlib.compress(orjson.dumps(document), 1)
        self._new[event.event_id] = (event.event_id, event.at_us, _uri(event), packed)

    def published(self, event_ids: Iterable[int]) -> None:
        """Remove published events from the queue: their records are in a stored snapshot."""
        self._done.update(event_ids)

    def keep_only(self, event_ids: set[int]) -> None:
        """Forget all other events, with the next `flush`: a full read found that they do not count any more."""
        with self._access():
            rows = self._database.execute("select event_id from records union select event_id from waiting").fetchall()
        self._gone = {event_id for (event_id,) in rows} - event_ids
        for records in (self._new, self._waiting):
            for event_id in records.keys() - event_ids:
                del records[event_id]

    def flush(self) -> None:
        """Write what was noted.

        Raises:
            SnapshotError: It cannot be written; it is kept for the next time.
        """
        if not (self._new or self._waiting or self._done or self._gone):
            return
        done, gone = [(i,) for i in self._done | self._gone], [(i,) for i in self._gone]
        with self._access(), self._database:
            self._database.executemany("delete from records where event_id = ?", gone)
            self._database.executemany("insert or replace into records values (?, ?, ?, ?)", self._new.values())
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
        if _version(database) == _NAMED_LEARNT:
            _rename_learnt(database)
        if _version(database) != _FORMAT:
            for table in ("learnt", "records", "waiting", "about"):
                database.execute(f"drop table if exists {table}")
            database.executescript(f"{_TABLES} pragma user_version = {_FORMAT};")  # waits for the disk four times
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    with closing(database.execute("pragma user_version")) as rows:
        version: int = rows.fetchone()[0]
    return version


def _rename_learnt(database: sqlite3.Connection) -> None:
    """Rename the table of the format before, so that no footer is read again."""
    database.execute("begin immediate")  # another process may have done it meanwhile
    with database:
        if _version(database) == _NAMED_LEARNT:
            database.execute("drop table if exists records")  # of this format, before an older version made its own
            database.execute("alter table learnt rename to records")
            database.execute(f"pragma user_version = {_FORMAT}")


def _outcome(document: bytes) -> Outcome:
    content = orjson.loads(zlib.decompress(document))
    return Refusal(content["error"]) if isinstance(content, dict) else content


def _uri(event: Materialization) -> str:
    return event.file.uri if isinstance(event.file, Foreign) else ""


def _document(event: Materialization) -> bytes:
    foreign = [*event.file] if isinstance(event.file, Foreign) else ["", []]
    return orjson.dumps([event.asset_key, event.partition_key, event.at_us, event.run_id, foreign])


def _event(event_id: int, fields: list[Any]) -> Materialization:
    asset_key, partition_key, at_us, run_id, (uri, dimensions) = fields
    foreign = Foreign(uri, tuple((name, value) for name, value in dimensions))
    return Materialization(tuple(asset_key), event_id, partition_key, at_us, run_id, foreign)
