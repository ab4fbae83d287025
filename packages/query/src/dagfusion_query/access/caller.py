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
        token_id: The token's; empty without one.
    """

    user: str
    grants: Grants
    door: str
    token_id: str = ""

    @property
    def owner(self) -> str:
        """Whose its queries, sessions and statements are: a name may be given anew, an id is not."""
        return self.token_id or self.user
