"""The catalog's entity tag: who asks again and again is told in a few bytes that nothing changed."""

import hashlib
import secrets
from collections.abc import Iterable

from dagfusion_query.catalog.environments import EnvironmentState

_PROCESS = secrets.token_hex(8)  # generations may begin anew with another process
_AGE_STEP_S = 60


def entity_tag(states: Iterable[EnvironmentState], *asked: str) -> str:
    """Return what changes with the catalog: with a generation, a trouble, each minute that an environment lags behind.

    Args:
        states: The environments as the caller sees them.
        asked: What else the answer depends on, such as the caller's grants.
    """
    parts = [(state.name, state.snapshot.generation, str(state.trouble), _age(state)) for state in states]
    digest = hashlib.blake2b(repr((_PROCESS, asked, parts)).encode(), digest_size=16)
    return f'W/"{digest.hexdigest()}"'


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Tell whether a client has what a tag stands for."""
    known = (part.strip().removeprefix("W/") for part in (if_none_match or "").split(","))
    return tag.removeprefix("W/") in known


def _age(state: EnvironmentState) -> int | None:
    return None if state.lag is None else int(state.lag.age_s // _AGE_STEP_S)
