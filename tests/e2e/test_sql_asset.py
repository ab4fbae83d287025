"""An asset that is defined by SQL, where Dagster's event log is in PostgreSQL."""

import dagster as dg

from dagfusion_pipeline import S3ParquetIOManager, sql_asset
from dagfusion_pipeline.environment import Environment
from dagfusion_reference.defs.healthcare.assets import partitioned_organizations, raw_organizations
from tests.e2e.lake import EXTRACTS, Lake


def test_a_query_reads_the_event_log_of_its_run(small: Lake) -> None:
    states = sql_asset(
        "gold/states",
        "SELECT state, count(*) AS extracts FROM silver_tax_id.partitioned_organizations GROUP BY state",
        assets=[partitioned_organizations],
        io_manager_key="parquet",
    )
    stored = S3ParquetIOManager(**Environment.read(small.variables).io_manager_fields())
    result = dg.materialize(
        [raw_organizations, partitioned_organizations, states],
        selection=[states],
        instance=small.instance,
        resources=small.resources(parquet=stored),
    )
    assert result.success
    with small.connect() as connection:
        rows = connection.sql("SELECT state, extracts FROM local_gold.states ORDER BY state").to_arrow().to_pylist()
    expected = small.stored(EXTRACTS)["state"].value_counts().sort("state").rows()
    assert [(row["state"], row["extracts"]) for row in rows] == expected
