"""The one setting of the reference data."""

import dagster as dg


class Seed(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The seed of the generated data: the same seed gives the same bytes in every partition."""

    value: int = 2024
