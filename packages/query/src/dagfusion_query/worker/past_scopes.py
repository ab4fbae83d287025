"""Worker process: the tables of statements as of the past."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path

from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.manifest import MappedCatalog
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.catalog.past_catalog import PastSnapshots, as_past
from dagfusion_query.worker.messages import PastSource

_MAPPED_TABLES = 64


class PastScopes:
    """Maps past tables, and puts together those that a statement reads. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._snapshots = PastSnapshots()

    def snapshot(self, sources: Sequence[PastSource], grants: Collection[str]) -> Snapshot:
        """Return the past tables that these grants allow.

        Raises:
            SnapshotError: A snapshot cannot be read.
        """
        allowed = Grants(frozenset(grants))
        tables = [(source.environment, self._table(source)) for source in sources]
        return self._snapshots.of([table for name, table in tables if allowed.allow(name, table.name)])

    def _table(self, source: PastSource) -> Table:
        if source.folder not in self._tables:
            mapped = MappedCatalog(Path(source.folder), source.environment).at(source.event_id)
            [self._tables[source.folder]] = as_past(mapped).tables.values()
        self._tables.move_to_end(source.folder)
        table = self._tables[source.folder]
        while len(self._tables) > _MAPPED_TABLES:
            self._tables.popitem(last=False)
        return table
