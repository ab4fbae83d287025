"""Past states of tables, which are older snapshots as long as their objects are those that they name. Pure."""

from dataclasses import dataclass

import pyarrow as pa

from dagfusion_query.catalog.model import Table
from dagfusion_query.iceberg.table_metadata import WrittenSnapshot

_OBJECT = ["event_id", "uri"]
_NAMED = [*_OBJECT, "run_id"]


@dataclass(frozen=True)
class PastState:
    """A state of a table whose snapshot is in the object store.

    Attributes:
        written: The snapshot.
        objects: The objects that it names, one row each: `event_id`, `uri` and `run_id` as in `Table.files`.
    """

    written: WrittenSnapshot
    objects: pa.Table

    @classmethod
    def of(cls, written: WrittenSnapshot, table: Table) -> "PastState":
        """Return the state of a table whose snapshot was written."""
        return cls(written, table.files.select(_NAMED))


class NewerObjects:
    """The objects of the newer states of a table, by which those of older ones are judged.

    Args:
        current: The table's current version.
    """

    def __init__(self, current: Table) -> None:
        self._objects = current.files.select(_OBJECT)

    def take(self, state: Table | PastState) -> bool:
        """Return True, and count a state among the newer ones, if its objects are those that its events describe.

        They may be gone. An object that no newer state has must be named after the run that wrote it, because another
        run would have replaced one of a stable name. No newer event may name it: that of a repair has other facts.

        Args:
            state: The next older state than those that were taken.
        """
        objects = state.objects if isinstance(state, PastState) else state.files.select(_NAMED)
        replaced = objects.join(self._objects, _OBJECT, join_type="left anti")
        if not all(row["run_id"] and f"-{row['run_id']}" in row["uri"] for row in replaced.to_pylist()):
            return False
        if len(replaced.join(self._objects.select(["uri"]), "uri", join_type="left semi")):
            return False
        self._objects = pa.concat_tables([self._objects, replaced.select(_OBJECT)])
        return True
