"""What a person watches of the organizations: pure functions from one written table to numbers."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc


def organization_metrics(table: pa.Table) -> Mapping[str, int]:
    """Return the numbers of organizations, providers and specialties."""
    return {
        "organizations": pc.count_distinct(table["npi"]).as_py(),
        "providers": pc.sum(table["provider_count"]).as_py() or 0,
        "specialties": pc.count_distinct(table["specialty"]).as_py(),
    }


def aggregate_metrics(table: pa.Table) -> Mapping[str, int]:
    """Return the totals over the states."""
    return {
        "organizations": pc.sum(table["organizations"]).as_py() or 0,
        "providers": pc.sum(table["providers"]).as_py() or 0,
        "states": pc.count_distinct(table["state"]).as_py(),
    }
