"""What the service wants of the catalogs of its environments."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.environments import EnvironmentState
from dagfusion_query.event_log.history import History


class Catalogs(Protocol):
    """Catalogs by environment: `catalog.environments.Environments` is one."""

    def states(self) -> Mapping[str, EnvironmentState]:
        """Return each environment as it is now."""

    def refresh(self, timeout_s: float) -> None:
        """Read the event logs now."""

    def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Ask what was done about a table or a partition."""


def told(catalogs: Catalogs, grants: Grants) -> dict[str, Any]:
    """Return what a worker is told of the environments that may be known: where a snapshot is, or what is wrong."""
    return {name: _told(state) for name, state in catalogs.states().items() if grants.allow_environment(name)}


def _told(state: EnvironmentState) -> dict[str, Any]:
    if state.problem is not None:
        return {"problem": {"code": state.problem.code, "text": str(state.problem)}}
    return {"folder": str(state.folder), "generation": state.snapshot.generation}
