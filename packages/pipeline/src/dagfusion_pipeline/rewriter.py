"""Writes objects again without some of their rows, and logs them: what an erasure does to each partition."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from dagfusion_contract.field_ids import has_field_ids, with_field_ids
from dagfusion_contract.record import WrittenFile
from dagfusion_contract.values import parse_partition_entry
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.errors import CorruptObjectError, LayoutError, MissingObjectError
from dagfusion_pipeline.event_metadata import event_metadata
from dagfusion_pipeline.event_objects import named_objects
from dagfusion_pipeline.frames import storable_table
from dagfusion_pipeline.logged_files import ERASED_BY, LoggedFile
from dagfusion_pipeline.maintenance import LogMaterialization, Manager
from dagfusion_pipeline.parquet import PARTITION_METADATA_KEY, decode
from dagfusion_pipeline.replacing import ReplacedError, ReplacingStore
from dagfusion_pipeline.store import ObjectVersion, checksum
from dagfusion_pipeline.vacuum_rule import renamed, run_of
from dagfusion_pipeline.writer import Target, WriteJob, write

_EVENTS_A_PAGE = 100


@dataclass(frozen=True)
class Rewritten:
    """An object that was written again without the rows, or would be.

    Attributes:
        partition: Dagster's key; None for an unpartitioned asset.
        old_uri: The object that held the rows.
        old_version: Its etag and checksum.
        new_uri: The object without them; None in a dry run.
        new_version: Its etag and checksum.
        rows_removed: Rows that the new object does not have.
    """

    partition: str | None
    old_uri: str
    old_version: tuple[str | None, str | None]
    new_uri: str | None
    new_version: tuple[str | None, str | None]
    rows_removed: int


@dataclass(frozen=True)
class Rewriter:
    """Writes objects of one asset again without the rows that have some keys.

    Attributes:
        instance: Whose event log is compared before an object is written.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        keys: The keys of the rows.
        run_id: Named in the objects' names where runs write objects of their own.
        log: Logs an event.
        taken: The URIs of all current objects of the asset; those that are written are added.
    """

    instance: dg.DagsterInstance
    manager: Manager
    asset_key: dg.AssetKey
    keys: Keys
    run_id: str
    log: LogMaterialization
    taken: set[str]

    def rewrite(self, files: Sequence[LoggedFile], *, dry_run: bool) -> Iterator[Rewritten | LoggedFile]:
        """Yield what was rewritten, and the files whose partitions were written meanwhile.

        Raises:
            MissingObjectError: An object is not the one of its event.
            CorruptObjectError: An object does not hold the bytes that were written.
            StoreError: An object could not be read or written.
        """
        versions = [self._version(file) for file in files]
        contents = self.manager.object_store.read_versions(versions, self.manager.upload_concurrency)
        for file, version, content in zip(files, versions, contents, strict=True):
            if content is None:
                if not is_current(self.instance, self.asset_key, file):
                    yield file
                    continue
                raise MissingObjectError(
                    f"{file.uri} of asset {self._asset!r} is gone, or is not the object of its event: materialize it"
                    " again, or wipe its partition, before rows are erased"
                )
            if file.record.get("checksum") not in (None, checksum(content)):
                raise CorruptObjectError(
                    f"{file.uri} of asset {self._asset!r} does not hold the bytes that its latest materialization"
                    " wrote: materialize it again"
                )
            names = [field["name"] for field in file.record["schema"]["fields"]]
            rest, removed = self.keys.split(storable_table(decode(content).select(names), self._asset))
            if not removed:
                continue
            old_version = version.etag, file.record.get("checksum")
            if dry_run:
                yield Rewritten(file.partition, str(file.uri), old_version, None, (None, None), removed)
            elif not is_current(self.instance, self.asset_key, file):
                yield file
            else:
                try:
                    written = self._write(file, version, content, rest, removed)
                except ReplacedError:
                    yield file
                    continue
                new_version = written.etag, written.checksum
                yield Rewritten(file.partition, str(file.uri), old_version, written.uri, new_version, removed)

    @property
    def _asset(self) -> str:
        return self.asset_key.to_user_string()

    def _version(self, file: LoggedFile) -> ObjectVersion:
        root, uri, etag = self.manager.object_store.uri(""), str(file.uri), file.record.get("etag")
        if not uri.startswith(root) or etag is None:
            raise MissingObjectError(
                f"{uri} of asset {self._asset!r} is outside of {root}, or its event has no etag: materialize it again"
                " with an IO manager of this bucket before rows are erased"
            )
        return ObjectVersion(uri.removeprefix(root), str(etag), int(file.record["size_bytes"]))

    def _new_key(self, file: LoggedFile, old_key: str) -> str:
        """Return the name of the new object: only one that the run of its event gave it is of a run."""
        key = renamed(old_key, self.run_id) if run_of(old_key) in file.run_ids else old_key
        uri = self.manager.object_store.uri(key)
        if key != old_key and uri in self.taken:
            raise LayoutError(f"{file.uri} of asset {self._asset!r} would become {uri}, which another partition has")
        return key

    def _write(self, file: LoggedFile, old: ObjectVersion, content: Any, rest: pa.Table, removed: int) -> WrittenFile:
        """Write and log one object, after which no key is in it."""
        manager = self.manager
        values = dict(map(parse_partition_entry, file.record["partition"]))
        target = Target(file.partition, self._new_key(file, old.key), values)
        has_ids = has_field_ids(pq.read_schema(pa.BufferReader(pa.py_buffer(content))))
        job = WriteJob(
            asset=self._asset,
            targets=[target],
            schema=with_field_ids(rest.schema, values) if has_ids else rest.schema,
            footer_partition=_has_footer(content),
            compression=manager.compression,
            concurrency=1,
            budget_bytes=None,
        )
        store = self.manager.object_store
        (written,) = write(job, iter([(0, rest)]), ReplacingStore(store.client, store.root, {old.key: old.etag}))
        if target.object_key != old.key and not is_current(self.instance, self.asset_key, file):
            store.delete_objects([target.object_key])  # it would hide what a run wrote while this object was uploaded
            raise ReplacedError(written.uri)
        self.taken.add(written.uri)
        facts = manager.asset_facts(self.asset_key, {}, rest.schema, values)
        metadata = event_metadata(target, written, facts, file.partition)
        self.log(
            dg.AssetMaterialization(
                self.asset_key,
                partition=file.partition,
                description=f"{removed} rows were erased by their keys in {self.keys.column!r}.",
                metadata={
                    **metadata,
                    "erased_rows": removed,
                    "erased_column": self.keys.column,
                    ERASED_BY: self.run_id,
                },
            )
        )
        return written


def is_current(instance: dg.DagsterInstance, asset_key: dg.AssetKey, file: LoggedFile) -> bool:
    """Return True if a file's event is still the latest of its partition that says something of objects.

    Another event may name the same bytes by the same name, after a run that wrote them again.
    """
    partitions = None if file.partition is None else [file.partition]
    since = dg.AssetRecordsFilter(asset_key, asset_partitions=partitions, after_storage_id=file.event_id - 1)
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(since, limit=_EVENTS_A_PAGE, cursor=cursor)
        for record in page.records:  # the newest first
            if record.partition_key == file.partition and named_objects(record.asset_materialization) is not None:
                return record.storage_id == file.event_id
        cursor, more = page.cursor, page.has_more
    return False  # the asset was wiped


def _has_footer(content: Any) -> bool:
    """Return True if an object's footer has its partition columns."""
    metadata = pq.read_metadata(pa.BufferReader(pa.py_buffer(content))).metadata or {}
    return bool(json.loads(metadata.get(PARTITION_METADATA_KEY, b"[]")))
