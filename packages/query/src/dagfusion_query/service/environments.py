"""What the service wants of the catalogs of its environments."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

EnvironmentState: TypeAlias = Any


class Environments(Protocol):
    """Catalogs by environment."""

    def states(self) -> Mapping[str, EnvironmentState]:
        """Return each environment as it is now."""

    def refresh(self, timeout_s: float) -> None:
        """Read the event logs now."""
