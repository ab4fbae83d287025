"""What the service wants of the catalogs of its environments."""

from collections.abc import Mapping
from typing import Protocol

from dagfusion_query.catalog.environments import EnvironmentState


class Catalogs(Protocol):
    """Catalogs by environment: `catalog.environments.Environments` is one."""

    def states(self) -> Mapping[str, EnvironmentState]:
        """Return each environment as it is now."""

    def refresh(self, timeout_s: float) -> None:
        """Read the event logs now."""
