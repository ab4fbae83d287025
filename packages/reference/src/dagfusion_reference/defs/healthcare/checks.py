"""What must hold of the healthcare assets."""

import polars as pl

from dagfusion_pipeline import partition_checks
from dagfusion_reference.defs.checks import PartitionRule, RowRule, metric_checks, row_checks
from dagfusion_reference.defs.healthcare import assets, extracts
from dagfusion_reference.defs.healthcare.register import npi_is_valid
from dagfusion_reference.defs.states import CODES, state_of_zip

REGISTER = (
    RowRule("npi_is_unique", "No NPI comes twice.", pl.col("npi").is_duplicated()),
    RowRule("npi_is_valid", "Every NPI has ten digits and a right check digit.", ~npi_is_valid(pl.col("npi"))),
    RowRule(
        "tax_id_is_an_ein", "Every tax ID looks like 12-3456789.", ~pl.col("tax_id").str.contains(r"^\d{2}-\d{7}$")
    ),
    RowRule("zip_code_is_in_a_state", "Every ZIP code is in a state.", state_of_zip(pl.col("zip_code")).is_null()),
)
EXTRACTS = (
    PartitionRule(
        "state_is_valid",
        "Every partition is of one of the 50 states.",
        lambda record: (record.partition or "").rpartition("|")[2] not in CODES,
    ),
    PartitionRule(
        "organization_is_unique",
        "No organization comes twice in a partition.",
        lambda record: record.metrics["organizations"] != record.rows,
    ),
)
AGGREGATES = (
    PartitionRule(
        "every_state_is_there", "A day has all states.", lambda record: record.metrics["states"] != len(CODES)
    ),
)

checks = [
    row_checks(assets.raw_organizations, REGISTER),
    partition_checks(
        assets.partitioned_organizations,
        rows=(extracts.FEWEST_ROWS, extracts.MOST_ROWS),
        bounds={"provider_count": (1, None)},
        unknown="fail",
        blocking=True,
    ),
    metric_checks(assets.partitioned_organizations, EXTRACTS),
    partition_checks(assets.daily_org_aggregates, bounds={"organizations": (1, None)}, unknown="fail"),
    metric_checks(assets.daily_org_aggregates, AGGREGATES),
]
