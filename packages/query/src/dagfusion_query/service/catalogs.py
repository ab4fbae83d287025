"""What the service wants of the catalogs of its environments."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.environments import EnvironmentState
from dagfusion_query.documents.failures import Failure
from dagfusion_query.event_log.history import History
from dagfusion_query.worker.messages import EnvironmentSource


class Catalogs(Protocol):
    """Catalogs by environment: `catalog.environments.Environments` is one."""

    def states(self) -> Mapping[str, EnvironmentState]:
        """Return each environment as it is now."""

    def refresh(self, timeout_s: float) -> None:
        """Read the event logs now."""

    def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Ask what was done about a table or a partition."""


def sources(catalogs: Catalogs, grants: Grants) -> dict[str, EnvironmentSource]:
    """Return where a worker finds the environments that may be known, or what is wrong with them."""
    return {name: _source(state) for name, state in catalogs.states().items() if grants.allow_environment(name)}


def _source(state: EnvironmentState) -> EnvironmentSource:
    if state.problem is not None:
        return EnvironmentSource(problem=Failure.of(state.problem))
    return EnvironmentSource(folder=str(state.folder), generation=state.snapshot.generation)
