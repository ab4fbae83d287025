"""The query service over a deployment, as a process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.lake import Lake
from tests.server.processes.process import Server, served


def configuration(deployment: Lake, *environments: str) -> str:
    """A `dagfusion.toml` in which all environments are views of one deployment."""
    own = deployment.variables
    lines = []
    for name in environments:
        lines += [
            f"[environments.{name}]",
            f'event_log = "{deployment.event_log}"',
            f's3_bucket = "{deployment.bucket}"',
        ]
        lines += [f'{key.lower()} = "{value}"' for key, value in own.items() if key.startswith("AWS_")]
    return "\n".join(lines)


@contextlib.contextmanager
def service(folder: Path, deployment: Lake, *environments: str, **variables: str) -> Iterator[Server]:
    (folder / "dagfusion.toml").write_text(configuration(deployment, *environments))
    with served(folder, variables=variables) as server:
        yield server
