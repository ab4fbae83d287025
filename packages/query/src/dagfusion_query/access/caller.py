"""Who asks, whichever door it came through."""

from dataclasses import dataclass

from dagfusion_query.access.grants import Grants


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        user: The token's name, or `anonymous`.
        grants: What it may read.
        door: `http`, `flight` or `console`.
    """

    user: str
    grants: Grants
    door: str
