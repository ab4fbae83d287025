"""A real Sail cluster: a Spark Connect server, and workers that are processes of their own.

Sail starts its workers as pods. The Kubernetes API that it calls here starts each as a process of this machine.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa

from dagfusion_interop.spark.spark_connect import SparkSession, SparkStatement
from tests.http_servers import answering

SAIL = Path(sys.executable).with_name("sail")
PATIENCE_S = 120.0
_LOOK_S = 0.05
_LOCALHOST = "127.0.0.1"


class Worked(Protocol):
    """What uses CPU."""

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""


class Cluster:
    """A running cluster.

    Attributes:
        remote: The URL of its Spark Connect server.
        workers: The processes of the workers that were started so far.
        pods: Their pods.
    """

    def __init__(self, remote: str, variables: Mapping[str, str], log: Path) -> None:
        self.remote, self._variables, self._log = remote, variables, log
        self.workers: list[subprocess.Popen[bytes]] = []
        self.pods: list[Mapping[str, Any]] = []
        self.server: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a program of Sail."""
        with self._log.open("ab") as log:
            environment = {**self._variables, **variables}
            return subprocess.Popen([str(SAIL), *arguments], env=environment, stdout=log, stderr=log)  # noqa: S603

    def start_worker(self, pod: Mapping[str, Any]) -> None:
        """Start the worker of a pod."""
        self.pods.append(pod)
        [container] = pod["spec"]["containers"]
        given = {one["name"]: str(one.get("value") or _LOCALHOST) for one in container["env"]}
        self.workers.append(self.start(*container["args"], **given))

    def kill_worker(self) -> None:
        """Kill one of the workers that run."""
        next(worker for worker in self.workers if worker.poll() is None).kill()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""
        running = [one.pid for one in (self.server, *self.workers) if one is not None and one.poll() is None]
        times = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in running]
        return sum(int(ticks) for pair in times for ticks in pair) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End all of its processes."""
        for process in (self.server, *self.workers):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(PATIENCE_S)


@contextmanager
def running(
    folder: Path, port: int, catalog: Mapping[str, str], store: Mapping[str, str], workers: int
) -> Iterator[Cluster]:
    """Run a cluster.

    Args:
        folder: Gets its files.
        port: That of its server.
        catalog: The service's Iceberg catalog, as Sail names its parts.
        store: Variables with the endpoint and the keys of the object store.
        workers: How many processes run tasks.
    """
    with ExitStack() as stack:
        variables = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(folder / "kubeconfig"),
            "SAIL_MODE": "kubernetes-cluster",
            "SAIL_CLUSTER__DRIVER_EXTERNAL_HOST": _LOCALHOST,
            "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(workers),
            "SAIL_CLUSTER__WORKER_MAX_COUNT": str(workers),
            "SAIL_CLUSTER__WORKER_TASK_SLOTS": "128",
            "SAIL_CLUSTER__WORKER_HEARTBEAT_INTERVAL_SECS": "1",
            "SAIL_CLUSTER__WORKER_HEARTBEAT_TIMEOUT_SECS": "5",
            "SAIL_CATALOG__LIST": _listed(catalog),
            **store,
        }
        cluster = Cluster(f"sc://{_LOCALHOST}:{port}", variables, folder / "sail.log")
        api = stack.enter_context(_kubernetes(cluster))
        (folder / "kubeconfig").write_text(json.dumps(_kubeconfig(api)))
        stack.callback(cluster.end)
        cluster.server = cluster.start("spark", "server", "--port", str(port))
        await_port(port)
        yield cluster


@contextmanager
def local_cluster(
    folder: Path, store: Mapping[str, str], catalog: Mapping[str, str] | None = None, task_slots: int = 128
) -> Iterator[str]:
    """Run a cluster whose two workers are threads of the server; yield the URL of its Spark Connect server.

    Args:
        folder: Gets its log.
        store: As in `running`.
        catalog: Likewise; None for no catalog.
        task_slots: Those of a worker.
    """
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "SAIL_MODE": "local-cluster",
        "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2",
        "SAIL_CLUSTER__WORKER_MAX_COUNT": "2",
        "SAIL_CLUSTER__WORKER_TASK_SLOTS": str(task_slots),
        **({} if catalog is None else {"SAIL_CATALOG__LIST": _listed(catalog)}),
        **store,
    }
    cluster = Cluster(f"sc://{_LOCALHOST}:{port}", variables, folder / "sail.log")
    try:
        cluster.server = cluster.start("spark", "server", "--port", str(port))
        await_port(port)
        yield cluster.remote
    finally:
        cluster.end()


def answer(remote: str, statement: str, session: str | None = None) -> pa.Table:
    """Return the rows of a statement of Spark's SQL, in a session with this UUID, or in a new one."""
    running = SparkStatement(SparkSession(remote, session or str(uuid.uuid4())), str(uuid.uuid4()), statement)
    try:
        return pa.Table.from_batches([*running.batches()])
    finally:
        running.close()


def _listed(catalog: Mapping[str, str]) -> str:
    """Return a catalog as Sail's variable has it."""
    named = ", ".join(f'{key}="{value}"' for key, value in {"type": "iceberg-rest", **catalog}.items())
    return f"[{{{named}}}]"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    """Wait until a process listens on a port."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((_LOCALHOST, port), 1).close()
        except OSError:
            time.sleep(_LOOK_S)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def busy(cluster: Worked) -> None:
    """Wait until the cluster works."""
    deadline = time.monotonic() + PATIENCE_S
    while used_s(cluster) < 0.2:
        assert time.monotonic() < deadline, "the cluster does nothing"


def await_rest(cluster: Worked) -> None:
    """Wait until the cluster does nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while used_s(cluster) > 0.1:
        assert time.monotonic() < deadline, "the cluster goes on"


def used_s(cluster: Worked) -> float:
    """The seconds of CPU that the cluster uses in one second, or a little longer."""
    before = cluster.cpu_s
    time.sleep(1)
    return cluster.cpu_s - before


@contextmanager
def _kubernetes(cluster: Cluster) -> Iterator[str]:
    """Run the part of a Kubernetes API that Sail calls; yield its URL."""

    class Pods(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            pod = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
            cluster.start_worker(pod)
            self._answer(201, pod)

        def do_DELETE(self) -> None:
            self._answer(200, {"apiVersion": "v1", "kind": "Status", "status": "Success"})

        def _answer(self, status: int, document: Any) -> None:
            body = orjson.dumps(document)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with answering(Pods) as url:
        yield url


def _kubeconfig(url: str) -> Mapping[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "current-context": "here",
    }
