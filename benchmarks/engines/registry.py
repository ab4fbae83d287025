"""Every engine of the comparison."""

from benchmarks.engines import dagfusion, duckdb_files, frames, listing_table

ENGINES = (
    dagfusion.ENGINE,
    dagfusion.PLANNED_ANEW,
    dagfusion.NO_COPIES,
    listing_table.DEFAULT,
    listing_table.FRESH,
    listing_table.CACHED,
    duckdb_files.DEFAULT,
    duckdb_files.CACHED,
    duckdb_files.LAKE,
    frames.POLARS,
    frames.POLARS_KEPT,
    frames.ARROW,
    frames.ARROW_KEPT,
)
