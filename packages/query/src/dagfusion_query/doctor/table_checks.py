"""Checks of the tables of a catalog, and of their objects. Pure."""

from collections.abc import Iterator

from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.doctor.fault import Fault, counted, named
from dagfusion_query.doctor.object_listing import Comparison
from dagfusion_query.errors import NotParquetError
from dagfusion_query.scan.consolidation_gain import consolidation_gain


def check_tables(snapshot: Snapshot) -> Iterator[Fault]:
    """Find tables that cannot be read, that leave something out, or that would gain from a consolidation."""
    for name, collision in snapshot.problems.items():
        step = "rename one of the assets, and wipe the other name's materializations"
        yield Fault("name_collision", str(name), str(collision), step)
    for name, table in snapshot.tables.items():
        if isinstance(table.problem, NotParquetError):
            continue  # an asset of another IO manager, which is no table
        if table.problem is not None:
            step = "materialize the partitions that differ again, or give the asset another key"
            yield Fault("table_unusable", str(name), str(table.problem), step)
            continue
        for warning in table.warnings:
            step = "materialize what is left out again; `dagfusion describe` has all warnings of the table"
            yield Fault("table_incomplete", str(name), str(warning), step)
        if consolidation_gain(table).would_gain:
            yield Fault(
                "small_files",
                str(name),
                f"it has {counted(len(table.files), 'small file')}, each of which costs a request",
                f"run `dagfusion consolidate {name}`, or schedule build_consolidate_job",
            )


def check_objects(table: Table, found: Comparison) -> Iterator[Fault]:
    """Find differences between the objects of a table and its events."""
    files = len(table.files)
    partitions = dict(zip(table.files["uri"].to_pylist(), table.files["partition_key"].to_pylist(), strict=True))
    where = str(table.name)

    def again(uris: list[str]) -> str:
        keys = [str(partitions[uri]) for uri in uris if partitions.get(uri) is not None]
        asset = "/".join(table.asset_key)
        return f"materialize asset {asset} again{f', partitions {named(keys)}' if keys else ''}"

    if found.missing:
        what = f"{len(found.missing):,} of {counted(files, 'object')} are not in the bucket: {named(found.missing)}"
        yield Fault("objects_missing", where, what, f"restore their last versions, or {again([*found.missing])}")
    if found.changed:
        changed = f"{len(found.changed):,} of {counted(files, 'object')}"
        what = f"{changed} are not those of their events: {named(found.changed)}"
        yield Fault("objects_changed", where, what, f"find what else writes there, then {again([*found.changed])}")
    if found.orphaned:
        what = f"{counted(len(found.orphaned), 'object')} that no event names: {named(found.orphaned)}"
        step = "run the vacuum job for objects of earlier runs; delete others by hand, or log events for them"
        yield Fault("objects_orphaned", where, what, step)
    if found.archived:
        what = (
            f"{counted(len(found.archived), 'object')} in an archive that queries cannot read: {named(found.archived)}"
        )
        step = "restore them, or let the lifecycle rule use GLACIER_IR, which can be read"
        yield Fault("objects_archived", where, what, step)
