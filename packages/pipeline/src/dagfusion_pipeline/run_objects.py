"""The objects of a run: which one a partition is written to, and which one an input reads it from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagfusion_pipeline.errors import ConfigurationError, LayoutError
from dagfusion_pipeline.event_objects import Unrecorded
from dagfusion_pipeline.latest_files import LatestFile
from dagfusion_pipeline.object_layouts import ObjectLayout
from dagfusion_pipeline.partition_columns import PartitionColumn
from dagfusion_pipeline.reader import Source
from dagfusion_pipeline.run_partitions import RunPartitions
from dagfusion_pipeline.writer import Target


@dataclass(frozen=True)
class RunObjects:
    """The objects of an asset's partitions in one run.

    Attributes:
        layout: Maps a partition to an object key.
        prefix: What every key begins with.
        asset_key: The components of the asset's key.
        partitions: The partitions of the run.
        is_stable: Whether a run overwrites the objects of the last run.
    """

    layout: ObjectLayout
    prefix: str
    asset_key: Sequence[str]
    partitions: RunPartitions
    is_stable: bool

    def targets(self, columns: Sequence[PartitionColumn], attempt: str) -> list[Target]:
        """Return what each partition is written to, one element for each partition.

        Args:
            columns: The partition columns.
            attempt: The run, and the retry of its step. Objects that are not stable are named after it.

        Raises:
            LayoutError: Two partitions have one object, or a key is not valid.
        """
        values = self.partitions.values(columns)
        targets = [
            Target(
                partition_key=key,
                object_key=self._key(position, columns, None if self.is_stable else attempt),
                values={column: array[position] for column, array in values.items()},
            )
            for position, key in enumerate(self.partitions.keys)
        ]
        by_object: dict[str, Target] = {}
        for target in targets:
            other = by_object.setdefault(target.object_key, target)
            if other is not target:
                raise LayoutError(
                    f"partitions {other.partition_key!r} and {target.partition_key!r} of asset"
                    f" {self.partitions.asset!r} would both be object {target.object_key!r}: rename one of them"
                )
        return targets

    def sources(
        self, latest: Mapping[str | None, LatestFile | Unrecorded | None], root: str
    ) -> dict[str | None, Source | None]:
        """Return the object of each partition: the one its latest event names, else the one of its `stable` name.

        A partition that was wiped has none, also where its object is not deleted yet.

        Args:
            latest: What the latest event of a partition names, by partition key; None for a wiped partition.
            root: The URI of the object store, with a slash at its end.

        Raises:
            ConfigurationError: An event names what inputs do not load.
        """
        return {
            key: None if key in latest and latest[key] is None else self._source(position, latest.get(key), root)
            for position, key in enumerate(self.partitions.keys)
        }

    def _source(self, position: int, latest: LatestFile | Unrecorded | None, root: str) -> Source | None:
        if isinstance(latest, Unrecorded):
            self._check_stable_name(position, latest, root)
            latest = None
        if latest is not None and latest.uri.startswith(root):
            # Files that this IO manager did not write have the partition columns only in their event.
            of_event = latest.partition if self.layout.writes_partition_to_footer else {}
            return Source(latest.uri.removeprefix(root), latest.checksum, of_event)
        if self.is_stable:
            return Source(self._key(position))
        if latest is None:
            return None
        raise ConfigurationError(
            f"the latest materialization of asset {self.partitions.asset!r} wrote {latest.uri}, and this IO manager"
            f" reads {root}: set bucket to the one it wrote to, or materialize the asset again"
        )

    def _check_stable_name(self, position: int, latest: Unrecorded, root: str) -> None:
        """Refuse what an event names without a record, unless it is the object of the partition's stable name.

        Events of other IO managers may have only a link to look at; then that object is meant, too.
        """
        is_link = latest.place.startswith(("https://", "http://"))
        if not self.is_stable or not (is_link or latest.place == f"{root}{self._key(position)}"):
            raise ConfigurationError(
                f"the latest materialization of partition {self.partitions.keys[position]!r} of asset"
                f" {self.partitions.asset!r} names {latest.place} without a record of one object: inputs do not load"
                " it; let one object be there, or materialize the partition again"
            )

    def _key(self, position: int, columns: Sequence[PartitionColumn] = (), attempt: str | None = None) -> str:
        path = self.partitions.path_of(position, columns)
        return self.layout.key(self.prefix, self.asset_key, path, attempt)
