"""The one setting of the reference data."""

import dagster as dg


class Seed(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What the made-up data starts from: the same seed gives the same bytes in every partition."""

    value: int = 2024
