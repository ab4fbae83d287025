"""`docker-compose.yml` as a running project of its own, on ports of its own."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.ports import kept_ports

PORTS = ("POSTGRES", "LOCALSTACK", "DAGSTER", "HTTP", "FLIGHT")
IMAGES = ("dagster", "query")  # that the file builds
_START_S, _RUN_S = 900.0, 600.0
_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@dataclass(frozen=True)
class Project:
    """A project of Compose.

    Attributes:
        variables: Of the process that runs `docker compose`.
        ports: On this machine, by the names in `PORTS`.
    """

    root: Path
    name: str
    variables: Mapping[str, str]
    ports: Mapping[str, int]

    def compose(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run `docker compose`, and return its output."""
        command = ["docker", "compose", "--project-name", self.name, "--project-directory", str(self.root), *arguments]
        done = subprocess.run(  # noqa: S603
            command, env=self.variables, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{arguments} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def materialize(self, keys: Iterable[Sequence[str]], tags: Mapping[str, str]) -> None:
        """Launch a run over assets as Dagster's UI does, and wait until it has succeeded."""
        selection = [{"path": list(key)} for key in keys]
        params = {
            "selector": {
                "repositoryLocationName": "dagfusion_reference.definitions",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": selection,
            },
            "runConfigData": {"execution": {"config": {"in_process": {}}}},
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        }
        launched = self._graphql(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        deadline = time.monotonic() + _RUN_S
        while (status := self._graphql(_STATUS, {"id": run_id})["runOrError"]["status"]) != "SUCCESS":
            assert status not in ("FAILURE", "CANCELED"), self.compose("logs", "--tail=200", "code-location")
            assert time.monotonic() < deadline, f"the run of {selection} is {status} after {_RUN_S:g} s"
            time.sleep(1)

    def _graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.ports['DAGSTER']}/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60)
        document: dict[str, Any] = answer.json()
        assert "errors" not in document, document
        return dict(document["data"])


@contextlib.contextmanager
def project(root: Path) -> Iterator[Project]:
    """Build images of its own, start everything with `docker compose up --wait`, and remove all with the volumes."""
    ports = dict(zip(PORTS, kept_ports(len(PORTS)), strict=True))
    chosen = {f"DAGFUSION_{name}_PORT": str(port) for name, port in ports.items()}
    name = f"dagfusion-test-{os.getpid()}"
    started = Project(root, name, {**os.environ, **chosen, "DAGFUSION_IMAGE_PREFIX": name}, ports)
    try:
        started.compose("build", "query", "code-location", timeout_s=_START_S)
        started.compose("up", "--wait", "--wait-timeout", str(int(_START_S)), timeout_s=_START_S + 60)
        yield started
    finally:
        started.compose("down", "--volumes", "--timeout", "5")
        remove = ["docker", "image", "rm", *(f"{name}/{image}" for image in IMAGES)]
        subprocess.run(remove, capture_output=True, timeout=120, check=False)  # noqa: S603  # none after a failed build
