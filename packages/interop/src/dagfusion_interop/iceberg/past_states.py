"""Past states of tables. A state can be an Iceberg snapshot until an object that it names is replaced. Pure."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_interop.iceberg.table_metadata import WrittenSnapshot
from dagfusion_query.catalog.model import Table

_OBJECT = ["event_id", "uri"]
_NAMED = [*_OBJECT, "run_id"]
# All that is said of a file that a snapshot no longer has, and what orders files.
_OF_REMOVED = ["event_id", "uri", "size_bytes", "rows", "partition"]


@dataclass(frozen=True)
class PastState:
    """A state of a table whose snapshot is in the object store.

    Attributes:
        written: The snapshot.
        objects: The objects that it names, one row each, with some columns of `Table.files`.
    """

    written: WrittenSnapshot
    objects: pa.Table

    @classmethod
    def of(cls, written: WrittenSnapshot, table: Table) -> "PastState":
        """Return the state of a table whose snapshot was written."""
        return cls(written, table.files.select([*dict.fromkeys([*_NAMED, *_OF_REMOVED])]))


@dataclass(frozen=True)
class FileChange:
    """The files of a state beside those of the state before it, with the columns that manifests have.

    Attributes:
        kept: The files that both have.
        added: The files that only the state has.
        removed: The files that only the state before it has, without statistics.
    """

    kept: pa.Table
    added: pa.Table
    removed: pa.Table

    @classmethod
    def of(cls, before: PastState, files: pa.Table) -> "FileChange":
        """Compare a state with the files of the next one: objects of one name are the same, see `NewerObjects`."""
        is_kept = pc.is_in(files["uri"], value_set=before.objects["uri"].combine_chunks())
        is_still = pc.is_in(before.objects["uri"], value_set=files["uri"].combine_chunks())
        removed = before.objects.filter(pc.invert(is_still)).select(_OF_REMOVED)
        no_statistics = pa.nulls(len(removed), pa.struct([]))
        return cls(
            files.filter(is_kept), files.filter(pc.invert(is_kept)), removed.append_column("stats", no_statistics)
        )


class NewerObjects:
    """The objects of the newer states of a table, with which those of older states are compared.

    Args:
        current: The table's current version.
    """

    def __init__(self, current: Table) -> None:
        self._objects = current.files.select(_OBJECT)

    def add_if_unchanged(self, state: Table | PastState) -> bool:
        """Add the next older state, and return True, if its objects are still those that its events describe.

        Objects may have been deleted. An object that no newer state has must be named after the run that wrote it,
        because another run would have replaced one of a stable name. No newer event may name it: that of a repair has
        other facts.

        Args:
            state: The next older state than those that were added.
        """
        objects = (state.objects if isinstance(state, PastState) else state.files).select(_NAMED)
        replaced = objects.join(self._objects, _OBJECT, join_type="left anti")
        if not all(row["run_id"] and f"-{row['run_id']}" in row["uri"] for row in replaced.to_pylist()):
            return False
        if len(replaced.join(self._objects.select(["uri"]), "uri", join_type="left semi")):
            return False
        self._objects = pa.concat_tables([self._objects, replaced.select(_OBJECT)])
        return True
