"""Exports a table to a Delta log: reads the log back, and writes one commit with what has changed since.

    {folder of the table}/_delta_log/00000000000000000007.json

A commit is one object, which is written only if there is none of its name. So a crash leaves a log with or without it,
and of two exports at once the later one reads the other's commit and tries again. There are no checkpoints, because
they are Parquet files: engines that read `**/*.parquet` in the folder would read them as data.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import obstore
import orjson
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore

from dagfusion_client.errors import SettingsError, StoreUnavailableError, UnknownTableError, UnsupportedTypeError
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_contract.uri import is_folder, object_path, store_url
from dagfusion_interop.delta.delta_actions import (
    PROTOCOL,
    WRITER,
    LoggedFile,
    add_lines,
    commit_info,
    delta_columns,
    line,
    metadata_of,
    protocol_of,
    table_id,
    unexplained,
)
from dagfusion_interop.delta.delta_location import check_location, default_location
from dagfusion_query.catalog.model import AssetState, Snapshot, Table, layouts_of
from dagfusion_query.engine.datafusion_errors import unknown_table
from dagfusion_query.object_store import open_store, store_error
from dagfusion_query.settings import Settings

ATTEMPTS = 10
_READS = 16  # at once
_NAME = re.compile(r"/(\d{20})\.json$")


@dataclass(frozen=True)
class Commit:
    """One version of a log.

    Attributes:
        content: The lines of its file.
        added: Files that it adds, or describes anew.
        removed_files: Files that it removes.
    """

    version: int
    content: bytes
    added: int
    removed_files: Sequence[LoggedFile]

    @property
    def removed(self) -> int:
        """The number of files that it removes."""
        return len(self.removed_files)


@dataclass
class LogState:
    """The state of a table after the commits of its log.

    Attributes:
        location: The URI of the table's folder, with a slash at its end.
        version: That of the last commit; -1 before the first.
        files: The files, by their paths.
        metadata: The last `metaData`; empty before the first.
        protocol: The last `protocol`; likewise.
        table: The name of the table that is exported.
    """

    location: str
    version: int = -1
    files: dict[str, LoggedFile] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    table: str = ""

    def replay(self, version: int, content: bytes) -> None:
        """Apply the next commit.

        Raises:
            SettingsError: A version is missing, cannot be read, or is of another writer.
        """
        if version != self.version + 1:
            raise self.unusable(f"has no version {self.version + 1}")
        try:
            actions = [(text, *next(iter(orjson.loads(text).items()))) for text in content.split(b"\n") if text]
            is_own = any(kind == "commitInfo" and body.get("engineInfo") == WRITER for _, kind, body in actions)
            for text, kind, body in actions:
                self._apply(text, kind, body)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise self.unusable(f"has a version {version} that cannot be read ({error!r:.100})") from error
        if not is_own:
            raise self.foreign(f"has a version {version} of another writer")
        self.version = version

    def unusable(self, why: str) -> SettingsError:
        """Return the error of a log that cannot be continued. To delete it is a way for one of the same table only."""
        if not self.table or self.metadata.get("name") != self.table:
            return self.foreign(why)
        return SettingsError(f"{self.foreign(why)}, or delete its folder _delta_log to begin a new Delta log")

    def foreign(self, why: str) -> SettingsError:
        """Return the error of a log of another writer or table, which others may need."""
        return SettingsError(f"the Delta log of {self.location} {why}: export to another --location")

    def _apply(self, text: bytes, kind: str, body: Mapping[str, Any]) -> None:
        if kind == "add":
            self.files[body["path"]] = LoggedFile.of(_digest(text), body)
        elif kind == "remove":
            self.files.pop(body["path"], None)
        elif kind == "metaData":
            self.metadata = body
        elif kind == "protocol":
            self.protocol = body


def next_commit(state: LogState, table: Table | None, layouts: Sequence[Layout], at_ms: int) -> Commit | None:
    """Return the commit after which a log says what the catalog says; None if it does already. Pure.

    An object that a run replaced under its name is only added again, because a commit must not remove and add a path.

    Args:
        state: That of the log.
        table: The table; None if all of it was wiped, so that the catalog has none.
        layouts: The layouts of its files.
        at_ms: The time of the commit, milliseconds since 1970.

    Raises:
        UnsupportedTypeError: Delta has no type for a column, or no text for a partition value.
        CatalogError: Several partitions name one object.
        SettingsError: The log is of another table.
    """
    head: list[bytes] = []
    lines: dict[str, bytes] = {}
    if table is not None:
        columns = delta_columns(table, layouts)
        head = _changed_head(state, table, metadata_of(table, columns, state.metadata.get("createdTime", at_ms)))
        lines = add_lines(table, layouts, state.location, columns)
    digests = {path: file.digest for path, file in state.files.items()}
    added = [text for path, text in lines.items() if digests.get(path) != _digest(text)]
    removed = {path: file for path, file in state.files.items() if path not in lines}
    if not (head or added or removed):
        return None
    removals = [line("remove", {"path": path, "deletionTimestamp": at_ms, "dataChange": True}) for path in removed]
    info = line("commitInfo", commit_info(table, at_ms))
    content = b"".join(text + b"\n" for text in (info, *head, *removals, *added))
    return Commit(state.version + 1, content, len(added), [*removed.values()])


def _changed_head(state: LogState, table: Table, metadata: Mapping[str, Any]) -> list[bytes]:
    """Return the lines of the protocol and of the metadata, as far as they are not those of the log."""
    if state.metadata and state.metadata.get("id") != metadata["id"]:
        raise state.foreign(f"is that of table {state.metadata.get('name')}, not of {table.name}")
    head = []
    protocol = protocol_of(table)
    if state.protocol != protocol and (not state.protocol or protocol != PROTOCOL):  # it is never taken back
        head.append(line("protocol", protocol))
    if state.metadata != metadata:
        head.append(line("metaData", metadata))
    return head


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        location: The URI of the table's folder, which readers open.
        version: The version that has the table as it is.
        commit: What was written; None if nothing had changed.
        table: The table; None if all of it was wiped.
    """

    location: str
    version: int
    commit: Commit | None
    table: Table | None


class DeltaLog:
    """The log of one table in an object store.

    Args:
        store: The client of its store. It must support a PUT that fails if the object exists, as S3 does.
        location: The URI of the table's folder, with a slash at its end.
    """

    def __init__(self, store: ObjectStore, location: str) -> None:
        self.location = location
        self._store, self._folder = store, f"{object_path(location)}_delta_log"

    def read(self, state: LogState) -> None:
        """Apply the commits that the log has more than a state.

        Raises:
            SettingsError: The log cannot be continued.
            StoreUnavailableError: The store does not answer, or refuses.
        """
        try:
            known = self._path(state.version) if state.version >= 0 else None
            listing = obstore.list(self._store, f"{self._folder}/", offset=known)
            keys = [str(meta["path"]) for page in listing for meta in page]
            named = ((key, int(match[1])) for key in keys if (match := _NAME.search(key)))
            versions = sorted(version for key, version in named if key == self._path(version))
            with ThreadPoolExecutor(_READS, "dagfusion-delta") as pool:
                for version, content in zip(versions, pool.map(self._get, versions), strict=True):
                    state.replay(version, content)
        except (BaseError, OSError) as error:
            raise store_error(error, f"the Delta log of {self.location} cannot be read") from error

    def write(self, commit: Commit) -> bool:
        """Write a commit; return False if the log has this version already.

        Raises:
            StoreUnavailableError: The store does not answer, or refuses. The commit may be in the log nevertheless.
        """
        try:
            obstore.put(self._store, self._path(commit.version), commit.content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        except (BaseError, OSError) as error:
            raise store_error(error, f"the Delta log of {self.location} cannot be written") from error
        return True

    def _get(self, version: int) -> bytes:
        return bytes(obstore.get(self._store, self._path(version)).bytes())

    def _path(self, version: int) -> str:
        return f"{self._folder}/{version:020d}.json"


def export_delta(
    name: TableName, refreshed: Callable[[], Snapshot], settings: Settings, location: str | None = None
) -> Exported:
    """Write what the log of a table lacks.

    Args:
        name: The table.
        refreshed: Reads the event log, and returns the catalog as it is then.
        settings: Endpoint, region and credentials of the store.
        location: The folder of the Delta table; None for that of the asset.

    Raises:
        UnknownTableError: There is no table of this name, and no log of one that was wiped.
        UnsupportedTypeError: It is a view, or has something that Delta has not.
        SettingsError: The location cannot be used.
        StoreUnavailableError: The log cannot be read or written.
    """
    if location is None:
        snapshot = refreshed()
        table, _ = _table_of(name, snapshot)
        if table is None:
            unknown = unknown_table(str(name).lstrip("."), [*map(str, snapshot.tables)], "")
            raise UnknownTableError(
                f"{unknown} (if all of it was wiped, give the folder of its Delta log as --location)"
            )
        location = default_location(table)
    elif not is_folder(location, ("s3", "file")):
        raise SettingsError(f"--location must be s3://bucket/folder, without ?, # and %, got {location!r}")
    location = f"{location.rstrip('/')}/"
    store = open_store(store_url(location), settings, connect_timeout="5s", timeout="60s", max_retries=3)
    return export_to(DeltaLog(store, location), name, refreshed)


def export_to(log: DeltaLog, name: TableName, refreshed: Callable[[], Snapshot]) -> Exported:
    """Write what a log lacks; see `export_delta`."""
    state = LogState(log.location, table=str(name))
    for _ in range(ATTEMPTS):
        log.read(state)
        # The catalog is read after the log, so that it is at least as new as what the log has.
        snapshot = refreshed()
        table, layouts = _table_of(name, snapshot)
        check_location(log.location, snapshot)
        asset = snapshot.asset_states[table.asset_key] if table else _wiped_asset(state, name, snapshot)
        commit = next_commit(state, table, layouts, time.time_ns() // 1_000_000)
        if commit is None:
            return Exported(log.location, state.version, None, table)
        _check_removals(state, commit, asset)
        if log.write(commit):
            return Exported(log.location, commit.version, commit, table)
    raise StoreUnavailableError(
        f"table {name} was not exported, because others wrote to the Delta log in {log.location} {ATTEMPTS} times "
        "meanwhile: try again"
    )


def _check_removals(state: LogState, commit: Commit, asset: AssetState) -> None:
    """Raise an error if a commit removes files that may still be current."""
    left = unexplained(commit.removed_files, asset)
    if left:
        raise state.unusable(
            f"has {len(left):,} files that the event log does not have, nor a later event of their partitions (such as "
            f"{left[0].partition_key}, event {left[0].event_id}), and was not changed. If it is another event log, "
            "check --event-log, --environment and DAGSTER_HOME. If it was restored or purged"
        )


def _wiped_asset(state: LogState, name: TableName, snapshot: Snapshot) -> AssetState:
    """Return the asset of a table that the catalog does not have; raise an error unless it was wiped."""
    if state.version < 0:
        raise UnknownTableError(f"there is no table {name}, and no Delta log in {state.location}")
    if state.metadata.get("name") != str(name):
        raise state.foreign(f"is that of table {state.metadata.get('name')}, not of {name}")
    created = state.metadata.get("createdTime")
    for asset_key, asset in snapshot.asset_states.items():
        was_wiped = asset.wiped_at_us is not None or asset.absent["reason"].null_count
        if was_wiped and table_id(snapshot.environment, asset_key, created) == state.metadata.get("id"):
            return asset
    raise UnknownTableError(
        f"the event log has no table {name} and no wipe of it, but the Delta log of {state.location} has "
        f"{len(state.files):,} files of it, and was not changed: check --event-log, --environment and DAGSTER_HOME"
    )


def _table_of(name: TableName, snapshot: Snapshot) -> tuple[Table | None, Sequence[Layout]]:
    """Return a table with the layouts of its files; None if the catalog has no such table."""
    table = snapshot.tables.get(name)
    problem = snapshot.problems.get(name) if table is None else table.problem
    if problem is not None:
        raise problem
    if table is None:
        return None, ()
    if table.view is not None:
        raise UnsupportedTypeError(f"{name} is a view, which has no files: export the tables that it reads")
    return table, layouts_of(table, snapshot.asset_states[table.asset_key])


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()
