"""What a query would read, and why it skips the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.engine.engine import Prepared
from dagfusion_query.scan.scanned import Filter, Scan


@dataclass(frozen=True)
class FilterEffect:
    """One filter of a scan: how many files it skips by itself, and by what.

    Attributes:
        text: The filter, as DataFusion writes it.
        skipped: Files that it rules out by itself.
        by: "partition values" (exact), "statistics" (bounds of a column), or "nothing" (rows are filtered while they
            are read).
    """

    text: str
    skipped: int
    by: str


@dataclass(frozen=True)
class ScanExplanation:
    """One mention of a table: what of it is read.

    Attributes:
        table: `schema.table`.
        partitions: Dagster's keys of the partitions that are read, in catalog order.
        bytes_total: Size of all files; `bytes_kept` of those that are read.
        filters: What each filter does.
    """

    table: str
    files_total: int
    files_read: int
    bytes_total: int
    bytes_kept: int
    partitions: Sequence[str | None]
    uris: Sequence[str]
    filters: Sequence[FilterEffect]


@dataclass(frozen=True)
class Explanation:
    """How a query runs.

    Attributes:
        scans: What is read of each table.
        logical: DataFusion's logical plan.
        physical: DataFusion's physical plan, over the real files.
        path: "splice" (DataFusion's own Parquet scan), or "dataset" where the plan does not serialize.
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
        """Say for each scan what it reads, a line each."""
        return "\n".join(
            f"{scan.table}: {scan.files_read:,} of {scan.files_total:,} files, "
            f"{scan.bytes_kept:,} of {scan.bytes_total:,} bytes"
            for scan in self.scans
        )


def explain(prepared: Prepared) -> Explanation:
    """Explain a planned statement."""
    return Explanation(
        [_scan(scan) for scan in prepared.scans],
        prepared.logical.display_indent(),
        prepared.physical.display_indent(),
        "dataset" if prepared.spliced is None else "splice",
    )


def _scan(scan: Scan) -> ScanExplanation:
    kept = scan.kept
    files = scan.table.files
    return ScanExplanation(
        str(scan.table.name),
        len(files),
        len(kept),
        int(pc.sum(files["size_bytes"]).as_py() or 0),
        scan.bytes,
        kept["partition_key"].to_pylist(),
        kept["uri"].to_pylist(),
        [_effect(applied, len(files)) for applied in scan.filters],
    )


def _effect(applied: Filter, total: int) -> FilterEffect:
    kept = applied.kept()
    by = "partition values" if applied.decided else "nothing" if kept is None else "statistics"
    return FilterEffect(applied.text, 0 if kept is None else total - kept, by)
