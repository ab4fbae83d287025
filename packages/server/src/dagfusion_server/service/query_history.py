"""The history of queries, in one SQLite file of the state folder. It outlives a restart of the service.

A thread writes the queries that are over, many at once, so that no query waits for the disk. A disk that is full or
fails costs history and nothing else. Several services may share a file: each opens it for a batch or a question only.
"""

import itertools
import logging
import math
import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import orjson

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import QueryInfo

_log = logging.getLogger(__name__)

FILE_NAME = "queries-v1.sqlite"  # the version is that of its table and documents
_DAMAGED = f"{FILE_NAME}.damaged"
PAGE_BYTES = 4 << 20  # of the statements and error messages of a page
_WRITE_TIMEOUT_S = 10.0  # that it waits for the others who use the file
_READ_TIMEOUT_S = 0.5
_WAITING = 10_000  # queries that wait for the disk, and the bytes of their texts; if there are more, they are not kept
_WAITING_BYTES = 64 << 20
_BATCH = 500  # queries that are written at once; the registry remembers twice as many until they can be read here
_GATHER_S = 1.0  # from the first query of a batch to its writing, which costs as much as that of 30 queries
_CLOSE_TIMEOUT_S = 5.0
_OWNER_ONLY = 0o600  # statements may hold values that other users of the machine must not see
_TABLE = """
pragma auto_vacuum = incremental;
create table if not exists queries (
    number integer primary key autoincrement, id text unique, owner text, ended_us integer, document blob
);
create index if not exists queries_by_end on queries (ended_us);
create index if not exists queries_by_owner on queries (owner, ended_us);
"""
_INSERT = "insert or replace into queries (id, owner, ended_us, document) values (?, ?, ?, ?)"
_PRUNE = "delete from queries where number <= (select max(number) from queries) - ?"
_PRUNE_FIRST = "delete from queries where number in (select number from queries order by number limit ?)"
_KEPT_SHARE = 0.9  # of the bytes it may have, so that not each batch deletes something
_UNUSED_SHARE = 0.25  # of the file's pages, from which it is made smaller
StoredQuery = tuple[str, str, int, bytes]  # as `_INSERT` takes it


class QueryHistory:
    """Remembers the queries of services. Thread-safe but for `record` and `close`, which one thread calls.

    Args:
        folder: Where the file is.
        most: How many queries it holds; the oldest are deleted. With 0, its files are deleted.
        most_bytes: How large its file may become; the oldest queries are deleted.
    """

    def __init__(self, folder: Path, most: int, most_bytes: int) -> None:
        self._path, self._most, self._most_bytes = folder / FILE_NAME, most, most_bytes
        self._put_bytes = self._taken_bytes = 0  # of texts, by the threads that `record` and that write
        self._waiting: queue.Queue[tuple[QueryInfo, str] | None] = queue.Queue(_WAITING)
        self._logged_failures: dict[str, str] = {}  # the last logged failure of reading, and of writing
        self._thread: threading.Thread | None = None
        self._gathered = threading.Event()  # there are enough for a batch, or there will be no more
        if not most:
            with self._failures_logged("write"):
                for name in (FILE_NAME, f"{FILE_NAME}-journal", _DAMAGED):
                    (folder / name).unlink(missing_ok=True)

    def record(self, info: QueryInfo, owner: str) -> None:
        """Add a query that has ended. Returns at once."""
        if not self._most:
            return
        if self._thread is None:
            thread = threading.Thread(target=self._follow, name="dagfusion-query-history", daemon=True)
            thread.start()
            self._thread = thread
        size = _text_bytes(info)
        if self._waiting.full() or self._put_bytes - self._taken_bytes + size > _WAITING_BYTES:
            self._warn("write", "the disk is too slow for it")
            return
        self._waiting.put_nowait((info, owner))  # no other thread puts anything
        self._put_bytes += size
        if self._waiting.qsize() >= _BATCH:
            self._gathered.set()

    def infos(self, owner: str | None, limit: int, before: datetime | None = None) -> list[QueryInfo]:
        """Return queries, the last ended first; fewer than there are if their texts have many bytes, see `page`.

        Args:
            owner: Whose; None for all.
            limit: The most.
            before: They ended before this time.
        """
        ended_us = None if before is None else _microseconds(before)
        return self._select({"owner = ?": owner, "ended_us < ?": ended_us}, limit)

    def info(self, query_id: str, owner: str | None) -> QueryInfo | None:
        """Return a query with this id; None if there is none of this owner."""
        found = self._select({"id = ?": query_id, "owner = ?": owner}, 1)
        return found[0] if found else None

    def close(self) -> None:
        """Write what waits, but take no longer than some seconds."""
        if self._thread is not None:
            self._gathered.set()
            try:
                self._waiting.put(None, timeout=_CLOSE_TIMEOUT_S)
            except queue.Full:
                self._warn("write", "the disk is too slow for it")
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _select(self, conditions: Mapping[str, str | int | None], limit: int) -> list[QueryInfo]:
        """Return a page of the queries for which the conditions with a value hold."""
        if not self._most or not self._has_content():
            return []
        wanted = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"where {' and '.join(wanted)}" if wanted else ""
        statement = f"select document from queries {where} order by ended_us desc"  # texts of this module
        found: list[QueryInfo] = []
        # Never creates it, and writes only what a crash has left of a transaction.
        readable = partial(
            sqlite3.connect, f"{self._path.absolute().as_uri()}?mode=rw", timeout=_READ_TIMEOUT_S, uri=True
        )
        with self._failures_logged("read"), closing(readable()) as database:
            found += page(self._readable(database.execute(statement, [*wanted.values()])), limit)
        return found

    def _has_content(self) -> bool:
        try:
            return self._path.stat().st_size > 0
        except OSError:
            return False

    def _readable(self, rows: Iterable[tuple[bytes]]) -> Iterator[QueryInfo]:
        for (document,) in rows:
            try:
                yield codec.read(QueryInfo, orjson.loads(document))
            except ValueError as error:  # damaged, or of a newer service
                self._warn("read", f"one cannot be read: {error}")

    def _follow(self) -> None:
        """Write batch after batch, until there is None in one."""
        is_last = False
        while not is_last:
            batch = [self._waiting.get()]
            if batch[0] is not None:
                self._gathered.wait(_GATHER_S)  # not for the queue: each query would wake this thread
                self._gathered.clear()
            while batch[-1] is not None and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())  # no other thread takes anything
            is_last = batch[-1] is None
            queries = [one for one in batch if one is not None]
            try:
                if rows := _rows(queries):
                    self._write(rows)
            except Exception:  # noqa: BLE001  # whatever it is, the next batch may be written
                _log.exception("queries are missing in the history %s", self._path)
            self._taken_bytes += sum(_text_bytes(info) for info, _ in queries)

    def _write(self, rows: Sequence[StoredQuery]) -> None:
        with self._failures_logged("write"):
            try:
                self._insert(rows)
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # its subclasses are other faults
                    raise
                self._warn("write", f"{error}; the file is put aside as {_DAMAGED}")
                self._path.replace(self._path.with_name(_DAMAGED))
                self._insert(rows)
            self._logged_failures.pop("write", None)

    def _insert(self, rows: Sequence[StoredQuery]) -> None:
        self._path.touch(_OWNER_ONLY)
        with closing(sqlite3.connect(self._path, timeout=_WRITE_TIMEOUT_S)) as database:
            database.executescript(_TABLE)
            with database:
                database.executemany(_INSERT, rows)
                database.execute(_PRUNE, (self._most,))
                self._prune_bytes(database)
            pages = _number(database, "page_count")
            is_large = pages * _number(database, "page_size") > self._most_bytes
            if is_large or _number(database, "freelist_count") > _UNUSED_SHARE * pages:
                database.executescript("pragma incremental_vacuum")  # `execute` would free one page

    def _prune_bytes(self, database: sqlite3.Connection) -> None:
        """Delete the oldest queries while the pages that are in use have too many bytes."""
        page_bytes, kept_bytes = _number(database, "page_size"), self._most_bytes * _KEPT_SHARE
        while (used := (_number(database, "page_count") - _number(database, "freelist_count")) * page_bytes) and (
            used > self._most_bytes
        ):
            (count,) = database.execute("select count(*) from queries").fetchone()
            if not count:
                return
            database.execute(_PRUNE_FIRST, (math.ceil(count * (1 - kept_bytes / used)),))

    @contextmanager
    def _failures_logged(self, work: str) -> Iterator[None]:
        """Log what fails, and go on."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._warn(work, str(error))

    def _warn(self, work: str, failure: str) -> None:
        if failure != self._logged_failures.get(work):
            self._logged_failures[work] = failure
            _log.warning("queries are missing in the history %s: %s", self._path, failure)


def page(infos: Iterable[QueryInfo], limit: int) -> list[QueryInfo]:
    """Return the first queries: at most `limit`, and none after their texts have `PAGE_BYTES`."""
    found, size = list[QueryInfo](), 0
    for info in itertools.islice(infos, limit):
        found.append(info)
        size += _text_bytes(info)
        if size >= PAGE_BYTES:
            break
    return found


def _text_bytes(info: QueryInfo) -> int:
    return sum(
        len(text.encode(errors="replace")) for text in (info.sql, "" if info.error is None else info.error.message)
    )


def _number(database: sqlite3.Connection, pragma: str) -> int:
    (number,) = database.execute(f"pragma {pragma}").fetchone()
    return int(number)


def _rows(queries: Iterable[tuple[QueryInfo, str]]) -> list[StoredQuery]:
    rows = list[StoredQuery]()
    for info, owner in queries:
        try:
            rows.append(_row(info, owner))
        except Exception:  # noqa: BLE001  # one that cannot be encoded must not cost the others
            _log.exception("the query %s is missing in the history", info.id)
    return rows


def _row(info: QueryInfo, owner: str) -> StoredQuery:
    """Return a query's row; the scans, of which there may be many, are left out."""
    stored = replace(info, stats=replace(info.stats, scans=()))
    return info.id, owner, _microseconds(info.ended_at or info.submitted_at), codec.encode(stored)


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
