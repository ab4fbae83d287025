"""The day's organizations by state."""

import polars as pl

SCHEMA = pl.Schema(
    {
        "date": pl.Date(),
        "state": pl.String(),
        "organizations": pl.Int64(),
        "providers": pl.Int64(),
        "mean_providers": pl.Float64(),
        "specialties": pl.Int64(),
    }
)


def organizations_by_day(extracts: pl.LazyFrame) -> pl.DataFrame:
    """Return one row for each day and state: organizations, providers in all and on average, specialties."""
    return (
        extracts.group_by("date", "state")
        .agg(
            organizations=pl.col("npi").n_unique(),
            providers=pl.col("provider_count").sum(),
            mean_providers=pl.col("provider_count").mean().round(2),
            specialties=pl.col("specialty").n_unique(),
        )
        .cast(SCHEMA)
        .sort("date", "state")
        .collect()
    )
