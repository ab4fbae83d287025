"""Erases rows by key: rewrites the objects that hold them, and proves what was done and what still has the bytes."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from dagfusion_contract.layout import consolidated_folder
from dagfusion_pipeline.erasure_keys import Keys, read_keys
from dagfusion_pipeline.errors import BusyAssetError, ConfigurationError, PipelineError
from dagfusion_pipeline.event_objects import Unrecorded
from dagfusion_pipeline.latest_events import latest_events
from dagfusion_pipeline.logged_files import LoggedFile, logged_consolidations, logged_files
from dagfusion_pipeline.maintenance import (
    Asset,
    LogMaterialization,
    Manager,
    asset_keys,
    build_job,
    chosen_asset,
    io_manager_of,
    objects_of,
    refuse_busy,
)
from dagfusion_pipeline.replacing import found_objects
from dagfusion_pipeline.rewriter import Rewriter, Rewritten

_BATCH_BYTES = 128 << 20
_NOTES = (
    "A bucket with versioning keeps the bytes in noncurrent versions until a lifecycle rule deletes them.",
    "Query services keep local copies and results until they evict them: empty their folders to be sure.",
    "Assets downstream may have copied the rows: erase them there, too.",
    "Earlier events in Dagster's database keep the least and greatest value of columns. These may be erased ones.",
    "Checkpoints, snapshots and Iceberg manifests have these values, too, until they are written again.",
    "Delta logs keep these values in their commits: delete the folder _delta_log of the table, and export again.",
)
_SUPERSEDED = "superseded: the vacuum deletes it older_than_hours after its partition was written again or wiped"
_CONSOLIDATED = "consolidated: the vacuum deletes it older_than_hours after queries stopped reading it"
_UNKNOWN = (
    "this event log does not name it; queries may read it (a checkpoint or discovery may name it): examine its rows"
)
_UNRECORDED = "queries read it: not examined, because its event has no record of it"


@dataclass(frozen=True)
class StillHeld:
    """An object that may still hold erased rows, and what becomes of it."""

    uri: str
    why: str


@dataclass(frozen=True)
class Erasure:
    """The proof of an erasure. It has counts, and not the keys.

    Attributes:
        asset: The asset's key.
        column: That the keys are of.
        keys: How many there are.
        dry_run: Whether nothing was written.
        examined: The number of current objects whose records were examined.
        read: The number of these that may hold a key by their statistics, and were read.
        keys_without_rows: How many keys no row of the objects that were read has.
        rows_removed: The number of rows removed from all objects.
        rewritten: The objects that held rows.
        written_meanwhile: Partitions that another run wrote at the same time: erase again.
        not_examined: Partitions whose latest event has no record of one object, such as those of another IO manager;
            queries may read them.
        still_held: Objects that may still hold the rows, and why. Of those that the event log does not name, and of
            partitions that were not examined, queries may read the rows.
        stopped: The error that ended the erasure early.
        notes: Places that this library does not see.
    """

    asset: str
    column: str
    keys: int
    dry_run: bool
    examined: int
    read: int
    keys_without_rows: int
    rows_removed: int
    rewritten: Sequence[Rewritten]
    written_meanwhile: Sequence[str | None]
    not_examined: Sequence[str | None]
    still_held: Sequence[StillHeld]
    stopped: str | None = None
    notes: Sequence[str] = _NOTES

    @property
    def document(self) -> dict[str, Any]:
        """The proof as JSON."""
        return asdict(self)


class ErasureConfig(dg.Config):
    """Which rows a run of the job erases."""

    asset: str | None = Field(default=None, description="The asset's key, such as Silver/orgs, if the job has several.")
    column: str = Field(description="The column that has the keys.")
    keys_file: str = Field(
        description="A file with a key on each line, or s3://bucket/key in the assets' bucket. A run's config is stored"
        " and shown by Dagster, so it does not have the keys."
    )
    dry_run: bool = Field(default=True, description="Only find the rows.")


def build_erasure_job(
    assets: Iterable[Asset],
    *,
    io_manager_key: str = "io_manager",
    name: str = "erase_rows",
    tags: Mapping[str, Any] | None = None,
) -> dg.JobDefinition:
    """Build a job that erases the rows of an asset that have given keys in a column.

    The metadata of the op's output has the proof. Only a run that has `dry_run: false` writes.

    Args:
        assets: Assets that DagFusion's IO managers write.
        io_manager_key: The resource of an IO manager with the bucket and the prefix of these assets.
        name: The job's.
        tags: Tags of the job and its runs, such as the role that the run launcher gives a run.

    Example:
        >>> import dagster as dg
        >>> build_erasure_job([dg.AssetKey(["Silver", "orgs"])], io_manager_key="hive_parquet").name
        'erase_rows'
    """
    keys = tuple(asset_keys(assets))

    @dg.op(name=f"{name}_rewrite_objects", required_resource_keys={io_manager_key})
    def rewrite_objects(context: dg.OpExecutionContext, config: ErasureConfig) -> None:
        """Write the objects that hold the rows again, and report the proof."""
        manager = io_manager_of(context, io_manager_key)
        texts = read_keys(config.keys_file, manager)
        proof = erase_rows(
            context.instance,
            manager,
            chosen_asset(config.asset, keys),
            Keys(config.column, texts),
            run_id=context.run_id,
            dry_run=config.dry_run,
            log=context.log_event,
        )
        context.log.info("%s", described(proof))
        counts = {"rows_removed": proof.rows_removed, "objects_rewritten": len(proof.rewritten)}
        context.add_output_metadata({**counts, "proof": dg.MetadataValue.json(proof.document)})
        check_complete(proof)

    return build_job(
        rewrite_objects,
        "rewrite_objects",
        name=name,
        description="Erases rows by key; a dry run unless `dry_run` is set to false.",
        tags=tags,
    )


def erase_rows(
    instance: dg.DagsterInstance,
    manager: Manager,
    asset_key: dg.AssetKey,
    keys: Keys,
    *,
    run_id: str,
    dry_run: bool = False,
    log: LogMaterialization | None = None,
) -> Erasure:
    """Write the objects of an asset that hold rows with given keys again, without these rows.

    Each rewritten partition gets a materialization with the number of rows that were erased. Other objects stay as they
    are.

    Args:
        instance: Whose event log names the objects.
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        keys: The keys of the rows to erase.
        run_id: Named in the objects' names where runs write objects of their own.
        dry_run: Whether nothing is written.
        log: Logs an event; by default outside of a run.

    Raises:
        BusyAssetError: A run that may write the asset is in progress.
        ConfigurationError: The column is a partition column or cannot hold the keys, or no object is recorded.
        MissingObjectError: An object is not what its event says.
        StoreError: An object could not be read or written.
    """
    if not dry_run:
        refuse_busy(instance, asset_key, run_id)
    history = _History.of(instance, asset_key, keys)
    if not history.examined and not history.unrecorded:
        raise ConfigurationError(f"the event log has no object of asset {asset_key.to_user_string()!r}")
    emit = log or instance.report_runless_asset_event
    rewriter = Rewriter(instance, manager, asset_key, keys, run_id, emit, {*history.current})
    rewritten: list[Rewritten] = []
    meanwhile: list[str | None] = []
    stopped: str | None = None
    try:
        for batch in _batches(history.suspects, manager.upload_concurrency):
            if not dry_run:
                refuse_busy(instance, asset_key, run_id)  # a run may have begun since the last batch
            for done in rewriter.rewrite(batch, dry_run=dry_run):
                if isinstance(done, Rewritten):
                    rewritten.append(done)
                else:
                    meanwhile.append(done.partition)
    except PipelineError as error:
        if dry_run or not rewritten:
            raise
        stopped = str(error)
    current = history.current
    if not dry_run:
        current = current - {one.old_uri for one in rewritten} | {str(one.new_uri) for one in rewritten}
    return Erasure(
        asset_key.to_user_string(),
        keys.column,
        len(keys),
        dry_run,
        history.examined,
        len(history.suspects),
        keys.unmatched,
        sum(one.rows_removed for one in rewritten),
        rewritten,
        meanwhile,
        history.unrecorded,
        [*_still_held(instance, manager, asset_key, history, current)],
        stopped,
    )


def described(proof: Erasure) -> str:
    """Return a summary of the erasure as lines of text."""
    verb = "would be rewritten" if proof.dry_run else "are rewritten"
    rows = f"{proof.rows_removed} rows with {proof.keys} keys of {proof.column!r}"
    objects = f"{proof.examined} objects examined, {proof.read} read, {len(proof.rewritten)} {verb}"
    lines = [f"{proof.asset}: {objects}: {rows}"]
    if proof.keys_without_rows:
        lines.append(f"{proof.keys_without_rows} of the keys matched no row of these objects")
    lines += [f"  {one.new_uri or one.old_uri}: {one.rows_removed} rows" for one in proof.rewritten]
    if proof.not_examined:
        lines.append(f"{len(proof.not_examined)} partitions have no record of their objects: they were not examined")
        lines += [f"  {key or 'unpartitioned'}" for key in proof.not_examined]
    if proof.still_held:
        lines.append(f"{len(proof.still_held)} objects may still hold the rows")
        lines += [f"  {one.uri}: {one.why}" for one in proof.still_held]
    return "\n".join([*lines, *(() if proof.dry_run else proof.notes)])


def check_complete(proof: Erasure) -> None:
    """Refuse an erasure that is not complete.

    Raises:
        BusyAssetError: Another run wrote a partition meanwhile.
        PipelineError: An error ended it early.
    """
    if proof.stopped is not None:
        raise PipelineError(f"rows of other partitions are not erased yet: {proof.stopped}")
    if proof.written_meanwhile:
        raise BusyAssetError(
            f"partitions {list(proof.written_meanwhile)} of asset {proof.asset!r} were written meanwhile:"
            " erase the rows again"
        )


def _batches(files: Sequence[LoggedFile], most: int) -> Iterator[Sequence[LoggedFile]]:
    """Split files into those that are read together, which are few enough for the memory."""
    batch: list[LoggedFile] = []
    size_bytes = 0
    for file in files:
        if batch and (len(batch) >= most or size_bytes + int(file.record["size_bytes"]) > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(file)
        size_bytes += int(file.record["size_bytes"])
    if batch:
        yield batch


@dataclass(frozen=True)
class _History:
    """The events of an asset that matter to an erasure.

    Attributes:
        examined: Current objects.
        current: Their URIs.
        suspects: The current objects that may hold a key.
        events: All materializations whose objects may hold a key, also superseded and wiped ones.
        known: The URIs of all objects that an event names.
        suspected: The URIs that may hold a key by one of their events.
        unrecorded: Partitions whose latest event has no record.
        places: What these events name.
    """

    examined: int
    current: frozenset[str]
    suspects: Sequence[LoggedFile]
    events: Collection[int]
    known: Collection[str]
    suspected: frozenset[str]
    unrecorded: Sequence[str | None]
    places: Sequence[Unrecorded]

    @classmethod
    def of(cls, instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Keys) -> "_History":
        latest: dict[str | None, str | None] = {}
        places: dict[str | None, Unrecorded] = {}
        suspects: list[LoggedFile] = []
        events, known, suspected = set[int](), set[str](), set[str]()
        for file in logged_files(instance, asset_key):
            is_current = file.partition not in latest
            latest.setdefault(file.partition, file.uri)
            if is_current and file.unrecorded is not None:
                places[file.partition] = file.unrecorded
            if file.uri is None:
                continue
            known.add(file.uri)
            if keys.may_be_in(file.record):
                events.add(file.event_id)
                suspected.add(file.uri)
                if is_current:
                    suspects.append(file)
        current = {uri for uri in latest.values() if uri is not None}
        suspects.sort(key=lambda file: file.partition or "")
        keys.check()
        silent = latest_events(instance, asset_key).keys() - latest.keys()
        unrecorded = sorted({*places, *silent}, key=lambda key: key or "")
        found = frozenset(current), suspects, events, known, frozenset(suspected)
        return cls(len(current), *found, unrecorded, [*places.values()])


def _still_held(
    instance: dg.DagsterInstance, manager: Manager, asset_key: dg.AssetKey, history: _History, current: frozenset[str]
) -> Iterator[StillHeld]:
    """Yield the objects of an asset that are not current and may hold the rows."""
    store = manager.object_store
    objects = objects_of(manager, asset_key, instance.get_asset_keys())
    listed = {store.uri(stored.key) for stored in objects}
    root = store.uri("")
    elsewhere = sorted(uri for uri in {*history.suspected} - listed - current if uri.startswith(root))
    found = found_objects(store, [uri.removeprefix(root) for uri in elsewhere], manager.upload_concurrency)
    listed |= {uri for uri, stored in zip(elsewhere, found, strict=True) if stored is not None}
    for uri in sorted(listed - current):
        if any(place.has(uri) for place in history.places):
            yield StillHeld(uri, _UNRECORDED)
        elif uri not in history.known:
            yield StillHeld(uri, _UNKNOWN)
        elif uri in history.suspected:
            yield StillHeld(uri, _SUPERSEDED)
    large = {one.uri: one for logged in logged_consolidations(instance, asset_key) for one in logged.objects}
    for stored in store.list_objects(consolidated_folder(manager.prefix, asset_key.path)):
        one = large.get(store.uri(stored.key))
        if one is None or any(event in history.events for group in one.row_groups for event in group.events):
            yield StillHeld(store.uri(stored.key), _CONSOLIDATED)
