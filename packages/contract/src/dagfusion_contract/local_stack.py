"""How programs beside the local stack find it: by the variables that it writes to its folder."""

from collections.abc import Mapping
from pathlib import Path

HOME = ".dagfusion"  # of the current folder
ENV_FILE = "stack.env"
_OTHERS = ("DAGFUSION_EVENT_LOG", "DAGSTER_HOME")


def stack_home(variables: Mapping[str, str]) -> Path:
    """Return the folder of the local stack."""
    return Path(variables.get("DAGFUSION_HOME") or HOME)


def stack_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what the local stack says of itself; nothing if there is none, or the variables name another event log.

    Someone who names an event log means that one, with its own store: the stack's endpoint and keys must not mix in.

    Args:
        variables: The variables of the process.

    Raises:
        OSError: The file cannot be read.
    """
    if any(variables.get(name) for name in _OTHERS):
        return {}
    try:
        lines = (stack_home(variables) / ENV_FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
