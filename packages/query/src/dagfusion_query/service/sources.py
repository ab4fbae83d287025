"""Where workers find the catalogs of the service's environments."""

from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.environments import Environments, EnvironmentState
from dagfusion_query.documents.failures import Failure
from dagfusion_query.worker.messages import EnvironmentSource


def sources(environments: Environments, grants: Grants) -> dict[str, EnvironmentSource]:
    """Return where a worker finds the environments that may be known, or what is wrong with them."""
    return {name: _source(state) for name, state in environments.states().items() if grants.allow_environment(name)}


def _source(state: EnvironmentState) -> EnvironmentSource:
    if state.problem is not None:
        return EnvironmentSource(problem=Failure.of(state.problem))
    return EnvironmentSource(folder=str(state.folder), generation=state.snapshot.generation)
