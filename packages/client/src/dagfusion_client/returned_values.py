"""The values that both connections return, embedded and to a service: tables and their history, stats, explanations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from dagfusion_client.errors import NotParquetError


@dataclass(frozen=True)
class TableInfo:
    """One table of the catalog.

    It is what every connection returns, the embedded one too. The HTTP API has `TableDocument` for it, of
    `documents.catalog_documents`, which also has the environment and links to Dagster, and no location.

    Attributes:
        name: `schema.table`, as SQL uses it.
        asset_key: The asset key in Dagster.
        partition_columns: In path order.
        columns: All columns by name with their types; partition columns last.
        partitions: How many partitions are materialized.
        problem: The reason why the table cannot be queried; None if it can.
        warnings: Partitions that are left out, and why.
        problem_code: The kind of the problem, such as `not_parquet`: the asset's objects are not Parquet.
        files: The number of files; a partition may have several.
        location: The folder that holds all files, or the only file; None for tables of a service.
        required: Columns that hold no NULL.
        view: The statement of a view, which has no partitions of its own; None for a table.
        consolidated: How many of the files also have their rows in large objects.
        would_gain: True if a consolidation would make scans faster: many small files are in no such object.
    """

    name: str
    asset_key: tuple[str, ...]
    partition_columns: tuple[str, ...]
    columns: Mapping[str, str]
    partitions: int
    rows: int
    bytes: int
    materialized_at: datetime | None
    problem: str | None
    warnings: tuple[str, ...] = ()
    problem_code: str | None = None
    files: int = 0
    location: str | None = None
    required: tuple[str, ...] = ()
    view: str | None = None
    consolidated: int = 0
    would_gain: bool = False

    @property
    def is_table(self) -> bool:
        """True if the asset's objects are Parquet, and False if they are not, such as pickles."""
        return self.problem_code != NotParquetError.code


@dataclass(frozen=True)
class QueryStats:
    """The cost of a query.

    It is what every connection has of a query, the embedded one too, and it may be read while rows come. `Stats` of
    `documents.query_documents` is the service's: it has several environments, and the times of queue and phases.

    Attributes:
        files_total: Files of the tables that the query scans, once for each scan.
        files_read: Files that were opened so far.
        files_skipped: Files that were not opened, because none of their rows can match, or a limit was reached before.
        bytes_read: Bytes requested from the object store so far. A file counts in full where the engine does not count.
        rows: Rows returned so far.
        seconds: Time from the statement to the last batch so far, planning included.
        generation: The catalog generation that was read.
        files_left_out: Files beside `files_total` that may have matching rows and are left out, because their objects
            are archived or expired; see `Result.warnings`.
        requests: Requests sent to object stores; None if they were not counted.
        path: How the query ran: `splice`, `catalog` or `staged`, see `Explanation`; or `cache` if the kept result of an
            equal query was used and nothing was read.
    """

    files_total: int
    files_read: int
    files_skipped: int
    bytes_read: int
    rows: int
    seconds: float
    generation: int
    requests: int | None = None
    path: str = ""
    files_left_out: int = 0


@dataclass(frozen=True)
class FilterEffect:
    """One filter of a scan: how many files it skips by itself, and how.

    Attributes:
        text: The filter, as DataFusion writes it.
        skipped: The number of files that it skips by itself.
        by: "partition values" (exact), "statistics" (bounds of a column), or "nothing" (rows are filtered while they
            are read).
    """

    text: str
    skipped: int
    by: str


@dataclass(frozen=True)
class ScanExplanation:
    """One scan of a table: the partitions and files that it reads.

    Attributes:
        table: `schema.table`.
        partitions: Dagster's keys of the partitions that are read, in catalog order.
        bytes_total: Size of all files; `bytes_kept` of those that are read.
        uris: The URIs of the objects that they are read from, one for each partition.
        filters: The effect of each filter.
        consolidated: Partitions that are read from large objects.
        large_objects: The URIs of these objects.
        files_left_out: Files beside `files_total` that may have matching rows and are left out, because their objects
            are archived or expired.
        copies_found: Local copies, of objects or of blocks of large objects, that are there.
        objects_to_fetch: Objects that are fetched whole into local copies before the scan.
        blocks_to_fetch: Blocks of large objects that are fetched into local copies before the scan.
        objects_in_place: Objects, small or large, that are read in place.
    """

    table: str
    files_total: int
    files_read: int
    bytes_total: int
    bytes_kept: int
    partitions: Sequence[str | None]
    uris: Sequence[str]
    filters: Sequence[FilterEffect]
    consolidated: int = 0
    large_objects: Sequence[str] = ()
    files_left_out: int = 0
    copies_found: int = 0
    objects_to_fetch: int = 0
    blocks_to_fetch: int = 0
    objects_in_place: int = 0

    @property
    def sources(self) -> str:
        """The places that the objects are read from, as words; empty for a scan that reads none."""
        numbered = [
            (self.copies_found, "local copy", "local copies", ""),
            (self.objects_to_fetch, "object", "objects", " to fetch"),
            (self.blocks_to_fetch, "block", "blocks", " to fetch"),
            (self.objects_in_place, "object", "objects", " in place"),
        ]
        words = [f"{count:,} {one if count == 1 else many}{end}" for count, one, many, end in numbered if count]
        return f"from {', '.join(words)}" if words else ""

    @property
    def without_archive(self) -> str:
        """The number of files that are left out, as words at the end of a line; empty for none."""
        return f", {self.files_left_out:,} archived files left out" if self.files_left_out else ""

    @property
    def in_large(self) -> str:
        """The part that is read of large objects, as words after the number of files; empty for nothing."""
        if not self.consolidated:
            return ""
        objects = "1 large object" if len(self.large_objects) == 1 else f"{len(self.large_objects):,} large objects"
        return f" ({self.consolidated:,} of them in {objects})"


@dataclass(frozen=True)
class Explanation:
    """The way a query runs.

    Attributes:
        scans: The scans of the tables, each with what it reads.
        logical: DataFusion's logical plan.
        physical: DataFusion's physical plan, over the real files.
        path: "splice" (DataFusion's own Parquet scan), "catalog" (no file is read), or "staged" (the rows of each table
            are written to local files first, because the plan does not serialize).
    """

    scans: Sequence[ScanExplanation]
    logical: str
    physical: str
    path: str

    def to_arrow(self) -> pa.Table:
        """Return the plans as `EXPLAIN` does: columns plan_type and plan."""
        rows = {"files": self.summary(), "logical_plan": self.logical, "physical_plan": self.physical}
        return pa.table({"plan_type": [*rows], "plan": [*rows.values()]})

    def summary(self) -> str:
        """Return one line for each scan: the files and bytes that it reads."""
        return "\n".join(
            f"{scan.table}: {scan.files_read:,} of {scan.files_total:,} files{scan.in_large}, "
            f"{scan.bytes_kept:,} of {scan.bytes_total:,} bytes{scan.without_archive}"
            f"{', ' if scan.sources else ''}{scan.sources}"
            for scan in self.scans
        )


@dataclass(frozen=True)
class TableGeneration:
    """A revision: what one run wrote to a table, or a wipe.

    Attributes:
        event_id: The run's last event: `as_of` this id reads the table as it was then.
        at: The time of the event.
        run_id: The run; None for an event outside of a run.
        partitions: The partitions that it wrote or wiped.
        rows: The rows in them; None if an event does not say, or if the run is old and over many partitions.
        is_wipe: True if the asset, or these partitions of it, were wiped.
        first_at: The time of the run's first event.
    """

    event_id: int
    at: datetime
    run_id: str | None
    partitions: int
    rows: int | None
    is_wipe: bool
    first_at: datetime


@dataclass(frozen=True)
class PartitionChange:
    """A partition that differs between two states of a table.

    Attributes:
        partition_key: Dagster's; None for an unpartitioned table.
        change: `added`, `rewritten` or `gone`.
        rows_before: None if it was not there.
        rows_after: None if it is gone.
    """

    partition_key: str | None
    change: str
    rows_before: int | None
    rows_after: int | None


@dataclass(frozen=True)
class TableDiff:
    """The difference of two states of a table.

    Attributes:
        table: `schema.table`.
        before: The event of the first state; 0 for one before all events.
        after: The event of the second.
        added: Partitions that only the second has.
        rewritten: Partitions that were written again in between.
        gone: Partitions that only the first has.
        unchanged: The other partitions.
        rows_before: Rows of the first state.
        rows_after: Rows of the second.
        changes: The first 1,000 partitions that differ, by their keys.
    """

    table: str
    before: int
    after: int
    added: int
    rewritten: int
    gone: int
    unchanged: int
    rows_before: int
    rows_after: int
    changes: Sequence[PartitionChange]
