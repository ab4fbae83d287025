"""The history of queries, in one SQLite file of the state folder. It outlives a restart of the service.

A thread writes the queries that are over, many at once, so that no query waits for the disk. A disk that is full or
fails costs history and nothing else. Several services may share a file: each opens it for a batch or a question only.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from dagfusion_query.documents import codec
from dagfusion_query.documents.queries import QueryInfo

_log = logging.getLogger(__name__)

FILE_NAME = "queries-v1.sqlite"  # the version is that of its table and documents
_BUSY_TIMEOUT_S = 10
_WAITING = 10_000  # queries that wait for the disk; if there are more, they are not kept
_GATHER_S = 0.2  # from the first query of a batch to its writing
_CLOSE_TIMEOUT_S = 5.0
_OWNER_ONLY = 0o600  # statements may hold values that other users of the machine must not see
_TABLE = """
create table if not exists queries (
    number integer primary key autoincrement, id text unique, owner text, ended_us integer, document blob
);
create index if not exists queries_by_end on queries (ended_us);
create index if not exists queries_by_owner on queries (owner, ended_us);
"""
_INSERT = "insert or replace into queries (id, owner, ended_us, document) values (?, ?, ?, ?)"
_PRUNE = "delete from queries where number <= (select max(number) from queries) - ?"


class QueryHistory:
    """Remembers the queries of services. Thread-safe but for `record` and `close`, which one thread calls.

    Args:
        folder: Where the file is.
        most: How many queries it holds; the oldest are deleted. With 0, nothing is written or read.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._path, self._most = folder / FILE_NAME, most
        self._waiting: queue.Queue[tuple[QueryInfo, str] | None] = queue.Queue(_WAITING)
        self._trouble = ""  # that was logged last
        self._thread: threading.Thread | None = None

    def record(self, info: QueryInfo, owner: str) -> None:
        """Add a query that has ended. Returns at once."""
        if not self._most:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="dagfusion-query-history", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((info, owner))
        except queue.Full:
            self._warn("the disk is too slow for it")

    def infos(self, owner: str | None, limit: int, before: datetime | None = None) -> list[QueryInfo]:
        """Return queries, the last ended first.

        Args:
            owner: Whose; None for all.
            limit: The most.
            before: They ended before this time.
        """
        ended_us = None if before is None else _microseconds(before)
        documents = self._select(
            "where (?1 is null or owner = ?1) and (?2 is null or ended_us < ?2) order by ended_us desc limit ?3",
            (owner, ended_us, limit),
        )
        return [codec.read(QueryInfo, document) for document in documents]

    def info(self, query_id: str, owner: str | None) -> QueryInfo | None:
        """Return a query with this id; None if there is none of this owner."""
        documents = self._select("where id = ?1 and (?2 is null or owner = ?2)", (query_id, owner))
        return codec.read(QueryInfo, documents[0]) if documents else None

    def close(self) -> None:
        """Write what waits, but take no longer than some seconds."""
        if self._thread is not None:
            try:
                self._waiting.put(None, timeout=_CLOSE_TIMEOUT_S)
            except queue.Full:
                self._warn("the disk is too slow for it")
            self._thread.join(_CLOSE_TIMEOUT_S)

    def _select(self, condition: str, values: Sequence[Any]) -> list[Any]:
        if not self._most or not self._path.exists():
            return []
        rows: list[tuple[bytes]] = []
        with self._troubles(), self._opened() as database:
            rows = database.execute(f"select document from queries {condition}", values).fetchall()
        return [orjson.loads(document) for (document,) in rows]

    def _follow(self) -> None:
        """Write batch after batch, until there is None in one."""
        is_last = False
        while not is_last:
            batch = [self._waiting.get()]
            deadline = time.monotonic() + _GATHER_S
            while batch[-1] is not None and len(batch) < _WAITING:
                try:
                    batch.append(self._waiting.get(timeout=max(0.0, deadline - time.monotonic())))
                except queue.Empty:
                    break
            is_last = batch[-1] is None
            if rows := [_row(*one) for one in batch if one is not None]:
                self._write(rows)

    def _write(self, rows: Sequence[tuple[str, str, int, bytes]]) -> None:
        with self._troubles():
            with self._opened() as database, database:
                database.executemany(_INSERT, rows)
                database.execute(_PRUNE, (self._most,))
            self._trouble = ""

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        """Log what fails, and go on; a file that is no database is replaced."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._warn(str(error))
            if type(error) is sqlite3.DatabaseError:  # its subclasses are other faults
                self._path.unlink(missing_ok=True)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.touch(_OWNER_ONLY)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)) as database:
            database.executescript(_TABLE)
            yield database

    def _warn(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning("queries are missing in the history %s: %s", self._path, trouble)


def _row(info: QueryInfo, owner: str) -> tuple[str, str, int, bytes]:
    """Return a query's row; the scans, of which there may be many, are left out."""
    kept = replace(info, stats=replace(info.stats, scans=()))
    return info.id, owner, _microseconds(info.ended_at or info.submitted_at), codec.encode(kept)


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
