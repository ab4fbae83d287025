"""The table of prices: a file with its date and region."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Prices:
    """Prices of AWS in US dollars, without discounts and free tiers.

    Attributes:
        date: When they were read.
        storage_gb_month: By storage class, for a GiB and a month.
        transition_per_1000: By the storage class that a lifecycle rule moves objects to.
        get_per_1000: GET and HEAD.
        put_per_1000: PUT, COPY, POST and LIST.
        fargate_vcpu_hour: Linux on x86.
    """

    date: str
    region: str
    currency: str
    storage_gb_month: Mapping[str, float]
    transition_per_1000: Mapping[str, float]
    get_per_1000: float
    put_per_1000: float
    fargate_vcpu_hour: float
    fargate_gb_hour: float


def read_prices() -> Prices:
    """Return the table of this version."""
    return Prices(**json.loads(files("dagfusion_query.cost").joinpath("prices.json").read_text("utf-8")))
