"""What a query would read, and why it skips the rest."""

import pyarrow.compute as pc

from dagfusion_query.answers import Explanation, FilterEffect, ScanExplanation
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.scan.scanned import Filter, Scan


def explain(prepared: Prepared, engine: Engine) -> Explanation:
    """Explain a statement that an engine has planned.

    Raises:
        StatementError: The statement has no physical plan.
    """
    logical, physical = engine.plans(prepared)
    return Explanation([_scan(scan) for scan in prepared.scans], logical, physical, prepared.path)


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
