"""Erases rows by key: rewrites the objects that hold them, and proves what was done and what still has the bytes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from dagfusion_contract.layout import consolidated_folder
from dagfusion_pipeline.erasure_plan import Keys
from dagfusion_pipeline.errors import BusyAssetError, ConfigurationError, MissingObjectError
from dagfusion_pipeline.latest_events import latest_events
from dagfusion_pipeline.logged_files import LoggedFile, logged_consolidations, logged_files
from dagfusion_pipeline.maintenance import (
    Asset,
    LogMaterialization,
    Manager,
    asset_keys,
    chosen_asset,
    io_manager_of,
    objects_of,
    refuse_busy,
)
from dagfusion_pipeline.rewriter import Rewriter, Rewritten

_NOTES = (
    "A bucket with versioning keeps the bytes in noncurrent versions until a lifecycle rule deletes them.",
    "Query services keep local copies and results until they evict them: empty their folders to be sure.",
    "Assets downstream may have copied the rows: erase them there, too.",
)
_SUPERSEDED = "superseded: the vacuum deletes it older_than_hours after its partition was written again or wiped"
_CONSOLIDATED = "consolidated: the vacuum deletes it older_than_hours after queries stopped to read it"
_UNKNOWN = "no event names it: look at it, and delete it by hand"


@dataclass(frozen=True)
class StillHeld:
    """An object that may still hold erased rows, and what becomes of it."""

    uri: str
    why: str


@dataclass(frozen=True)
class Erasure:
    """The proof of an erasure. It has counts, and not the keys.

    Attributes:
        asset: the asset's key.
        column: that the keys are of.
        keys: how many there are.
        dry_run: whether nothing was written.
        examined: current objects that were looked at, by their records.
        read: of these, objects that may hold a key by their statistics, and were read.
        rows_removed: of all objects.
        rewritten: the objects that held rows.
        written_meanwhile: partitions that another run wrote at the same time: erase again.
        not_examined: partitions without a record of their object, such as those of another IO manager.
        still_held: objects that may still hold the rows. Queries do not read them.
        notes: places that this library does not see.
    """

    asset: str
    column: str
    keys: int
    dry_run: bool
    examined: int
    read: int
    rows_removed: int
    rewritten: Sequence[Rewritten]
    written_meanwhile: Sequence[str | None]
    not_examined: Sequence[str]
    still_held: Sequence[StillHeld]
    notes: Sequence[str] = _NOTES

    @property
    def document(self) -> dict[str, Any]:
        """The proof as JSON."""
        return asdict(self)


class ErasureConfig(dg.Config):
    """Which rows a run of the job erases."""

    asset: str | None = Field(default=None, description="The asset's key, such as Silver/orgs; of several assets.")
    column: str = Field(description="The column that the keys are of.")
    keys_file: str = Field(
        description="A file with a key on each line, or s3://bucket/key in the assets' bucket. A run's config is stored"
        " and shown by Dagster, so it does not have the keys."
    )
    dry_run: bool = Field(default=True, description="Only find the rows.")


def build_erasure_job(
    assets: Iterable[Asset], *, io_manager_key: str = "io_manager", name: str = "erase_rows"
) -> dg.JobDefinition:
    """Build a job that erases the rows of an asset that have given keys in a column.

    The metadata of the op's output has the proof. Only a run that has `dry_run: false` writes.

    Args:
        assets: assets that DagFusion's IO managers write.
        io_manager_key: the resource of an IO manager with the bucket and the prefix of these assets.
        name: the job's.

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

    @dg.job(name=name, description="Erases rows by key; a dry run unless `dry_run` is set to false.")
    def erase() -> None:
        # Definitions of ops have names of their own in a code location; this one is the same in every job.
        rewrite_objects.alias("rewrite_objects")()

    return erase


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
        instance: whose event log names the objects.
        manager: an IO manager with the asset's bucket and prefix.
        asset_key: the asset.
        keys: of the rows.
        run_id: named in the objects' names where runs write objects of their own.
        dry_run: whether nothing is written.
        log: logs an event; by default outside of a run.

    Raises:
        BusyAssetError: a run that may write the asset is under way.
        ConfigurationError: the column is a partition column or cannot hold the keys, or no object is recorded.
        MissingObjectError: an object is not what its event says.
        StoreError: an object could not be read or written.
    """
    if not dry_run:
        refuse_busy(instance, asset_key, run_id)
    history = _History.of(instance, asset_key, keys)
    if not history.examined:
        raise ConfigurationError(f"the event log has no object of asset {asset_key.to_user_string()!r}")
    rewriter = Rewriter(instance, manager, asset_key, keys, run_id, log or instance.report_runless_asset_event)
    rewritten: list[Rewritten] = []
    meanwhile: list[str | None] = []
    for start in range(0, len(history.suspects), manager.upload_concurrency):
        for done in rewriter.rewrite(history.suspects[start : start + manager.upload_concurrency], dry_run=dry_run):
            if isinstance(done, Rewritten):
                rewritten.append(done)
            else:
                meanwhile.append(done.partition)
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
        sum(one.rows_removed for one in rewritten),
        rewritten,
        meanwhile,
        history.unrecorded,
        [*_still_held(instance, manager, asset_key, history, current)],
    )


def read_keys(place: str, manager: Manager) -> list[str]:
    """Read the keys, one a line, from a file or from an object of the manager's bucket.

    Raises:
        ConfigurationError: there is no such file, it is outside of the bucket, or it has no keys.
        MissingObjectError: there is no such object.
        StoreError: the object could not be read.
    """
    if place.startswith("s3://"):
        root = manager.object_store.uri("")
        if not place.startswith(root):
            raise ConfigurationError(f"keys_file must be a local file or an object below {root}; got {place!r}")
        (content,) = manager.object_store.read_many([place.removeprefix(root)], 1)
        if content is None:
            raise MissingObjectError(f"there is no object {place}: upload the keys first")
        text = bytes(content).decode()
    else:
        try:
            text = Path(place).read_text()
        except OSError as error:
            raise ConfigurationError(f"the keys cannot be read from {place!r}: {error.strerror}") from error
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise ConfigurationError(f"{place!r} has no keys: write one on each line")
    return keys


def described(proof: Erasure) -> str:
    """Say what an erasure did, in lines."""
    verb = "would be rewritten" if proof.dry_run else "are rewritten"
    rows = f"{proof.rows_removed} rows with {proof.keys} keys of {proof.column!r}"
    objects = f"{proof.examined} objects examined, {proof.read} read, {len(proof.rewritten)} {verb}"
    lines = [f"{proof.asset}: {objects}: {rows}"]
    lines += [f"  {one.new_uri or one.old_uri}: {one.rows_removed} rows" for one in proof.rewritten]
    if proof.not_examined:
        lines.append(f"{len(proof.not_examined)} partitions have no record and were not examined")
        lines += [f"  {key}" for key in proof.not_examined]
    if proof.still_held:
        lines.append(f"{len(proof.still_held)} objects may still hold the rows; queries do not read them")
        lines += [f"  {one.uri}: {one.why}" for one in proof.still_held]
    return "\n".join([*lines, *(() if proof.dry_run else proof.notes)])


def check_complete(proof: Erasure) -> None:
    """Refuse an erasure that is not complete.

    Raises:
        BusyAssetError: another run wrote a partition meanwhile.
    """
    if proof.written_meanwhile:
        raise BusyAssetError(
            f"partitions {list(proof.written_meanwhile)} of asset {proof.asset!r} were written meanwhile:"
            " erase the rows again"
        )


@dataclass(frozen=True)
class _History:
    """What the event log has of an asset.

    Attributes:
        examined: current objects.
        current: their URIs.
        suspects: of these, the ones that may hold a key.
        events: all materializations whose objects may hold a key, also superseded and wiped ones.
        known: the URIs of all objects that an event names.
        suspected: of these, those that may hold a key by one of their events.
        unrecorded: partitions whose materializations have no record.
    """

    examined: int
    current: frozenset[str]
    suspects: Sequence[LoggedFile]
    events: Collection[int]
    known: Collection[str]
    suspected: Collection[str]
    unrecorded: Sequence[str]

    @classmethod
    def of(cls, instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Keys) -> "_History":
        latest: dict[str | None, str | None] = {}
        suspects: list[LoggedFile] = []
        events, known, suspected = set[int](), set[str](), set[str]()
        for file in logged_files(instance, asset_key):
            is_current = file.partition not in latest
            latest.setdefault(file.partition, file.uri)
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
        unrecorded = sorted(latest_events(instance, asset_key).keys() - latest.keys())
        return cls(len(current), frozenset(current), suspects, events, known, suspected, unrecorded)


def _still_held(
    instance: dg.DagsterInstance, manager: Manager, asset_key: dg.AssetKey, history: _History, current: Collection[str]
) -> Iterator[StillHeld]:
    """Yield the objects of an asset that are not current and may hold the rows."""
    store = manager.object_store
    for stored in objects_of(manager, asset_key):
        uri = store.uri(stored.key)
        if uri not in current and uri not in history.known:
            yield StillHeld(uri, _UNKNOWN)
        elif uri not in current and uri in history.suspected:
            yield StillHeld(uri, _SUPERSEDED)
    large = {one.uri: one for logged in logged_consolidations(instance, asset_key) for one in logged.objects}
    for stored in store.list_objects(consolidated_folder(manager.prefix, asset_key.path)):
        one = large.get(store.uri(stored.key))
        if one is None or any(event in history.events for group in one.row_groups for event in group.events):
            yield StillHeld(store.uri(stored.key), _CONSOLIDATED)
