"""Selections: chosen partitions of chosen assets, under names of the caller's choice, in place of the whole catalog."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.errors import PlanError
from dagfusion_query.event_log.event_log_interface import AssetKey


@dataclass(frozen=True)
class Selection:
    """Some partitions of one asset.

    Attributes:
        asset_key: The asset.
        names: The names that a statement uses for its table.
        partitions: Dagster's keys of the partitions; None for all that there are.
    """

    asset_key: AssetKey
    names: tuple[TableName, ...]
    partitions: frozenset[str] | None = None


def find_table(snapshot: Snapshot, asset_key: AssetKey) -> Table | None:
    """Return the table of an asset, or None if the catalog has none."""
    return next((table for table in snapshot.tables.values() if table.asset_key == asset_key), None)


def missing_partitions(snapshot: Snapshot, selection: Selection) -> list[str]:
    """Return the partitions of a selection that the catalog has no file of, in the order of their keys."""
    table = find_table(snapshot, selection.asset_key)
    there = set() if table is None else set(table.files["partition_key"].to_pylist())
    return sorted((selection.partitions or frozenset()) - there)


def selected(snapshot: Snapshot, selections: Iterable[Selection]) -> Snapshot:
    """Return a catalog that has the selected files alone, and what selected views read.

    An asset without a table is left out.

    Raises:
        PlanError: A view needs all partitions of a table, some of which were selected under its own name.
    """
    tables: dict[TableName, Table] = {}
    for selection in selections:
        table = find_table(snapshot, selection.asset_key)
        if table is not None:
            kept = _restricted(table, selection.partitions)
            tables |= {name: replace(kept, name=name) for name in selection.names}
    for name, table in _read_by_views([*tables.values()], snapshot).items():
        if tables.setdefault(name, table).files is not table.files:
            raise PlanError(
                f"this statement reads some partitions of {name}, of which one of its views reads all: "
                f"name the table in another way than {name}, such as by the asset's key in double quotes"
            )
    return replace(snapshot, tables=MappingProxyType(tables), problems=MappingProxyType({}))


def _read_by_views(tables: Iterable[Table], snapshot: Snapshot) -> dict[TableName, Table]:
    """Return the tables and views below the views of some tables."""
    found: dict[TableName, Table] = {}
    left = [*tables]
    while left:
        view = left.pop().view
        for name in () if view is None else view.view.tables:
            if name in snapshot.tables and name not in found:
                found[name] = snapshot.tables[name]
                left.append(found[name])
    return found


def _restricted(table: Table, partitions: frozenset[str] | None) -> Table:
    if partitions is None:
        return table
    keys = pa.array(sorted(partitions), pa.string())
    return replace(table, files=table.files.filter(pc.is_in(table.files["partition_key"], value_set=keys)))
