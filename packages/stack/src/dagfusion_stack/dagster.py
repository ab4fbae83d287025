"""Dagster over the reference code location: its configuration, and its three processes."""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from dagfusion_stack import binaries, http_probe, ports, process, sockets
from dagfusion_stack.home import Home, write_private

CODE_LOCATION = "code location"
WEBSERVER = "Dagster webserver"
DAEMON = "Dagster daemon"
DATABASE = "dagster"
MODULE = "dagfusion_reference.definitions"
START_TIMEOUT_S = 300.0  # for a busy machine: importing Dagster takes ten seconds of CPU time
# One partition's event takes 10 ms alone, and a run may write thousands.
RUN_ENVIRON = {"DAGSTER_EVENT_BATCH_SIZE": "1000", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}
# SQLAlchemy 2.1 reads the bare scheme as another driver, with which Dagster's NOTIFY fails.
DRIVER = "postgresql+psycopg2://"
MAX_CONCURRENT_RUNS = 2
RUNS_OF_A_POOL = 1  # a run that writes thousands of partitions holds many rows in memory
SERVERS = ("code-server", "grpc")  # words of their command lines
RESOURCE_TRACKER = "multiprocessing.resource_tracker"  # ignores SIGTERM, and ends with the last process that it serves


def configure(home: Home, event_log: str) -> None:
    """Write `dagster.yaml` and `workspace.yaml` into the DAGSTER_HOME of `home`.

    Args:
        home: The state folder.
        event_log: The URL of Dagster's database, in libpq's form.
    """
    instance = {
        "storage": {"postgres": {"postgres_url": event_log.replace("postgresql://", DRIVER, 1)}},
        "concurrency": {
            "runs": {"max_concurrent_runs": MAX_CONCURRENT_RUNS},
            "pools": {"granularity": "run", "default_limit": RUNS_OF_A_POOL},
        },
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }
    server = {"socket": str(_code_socket(home)), "location_name": MODULE}
    for name, content in (("dagster.yaml", instance), ("workspace.yaml", {"load_from": [{"grpc_server": server}]})):
        # Every JSON document is a YAML document.
        write_private(home.dagster / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def start_code_location(home: Home, environ: Mapping[str, str]) -> process.Child:
    """Start the server that imports the reference code location and runs its assets."""
    _code_socket(home).unlink(missing_ok=True)
    command = [sys.executable, "-m", "dagster", "code-server", "start", "-m", MODULE, "--location-name", MODULE]
    return process.start(
        CODE_LOCATION,
        [*command, "--socket", _code_socket(home)],
        mark=home.path,
        log=home.logs / "code-location.log",
        environ={**environ, **RUN_ENVIRON},
        stop_signal=signal.SIGKILL,
    )


def is_run(candidate: psutil.Process) -> bool:
    """Return True for a run of the code location, not for its servers and helpers.

    A run has to log that it was stopped; a server has no state, and takes half a minute to stop when asked.
    """
    try:
        command = candidate.cmdline()
    except psutil.Error:
        return False
    return not any(part in SERVERS or RESOURCE_TRACKER in part for part in command)


def start_webserver(home: Home, port: int, environ: Mapping[str, str]) -> process.Child:
    """Start the web interface.

    Raises:
        PortBusyError: Something else listens on `port`.
    """
    ports.require_free(port, f"the {WEBSERVER}", "--dagster-port")
    program = binaries.script("dagster-webserver", "dagster-webserver")
    return process.start(
        WEBSERVER,
        [sys.executable, program, "-h", ports.LOOPBACK, "-p", str(port), "-w", home.dagster / "workspace.yaml"],
        mark=home.path,
        log=home.logs / "dagster-webserver.log",
        environ=environ,
    )


def start_daemon(home: Home, environ: Mapping[str, str]) -> process.Child:
    """Start the daemon, which runs schedules, sensors, backfills and the run queue."""
    program = binaries.script("dagster", "dagster-daemon")
    return process.start(
        DAEMON,
        [sys.executable, program, "run", "-w", home.dagster / "workspace.yaml"],
        mark=home.path,
        log=home.logs / "dagster-daemon.log",
        environ=environ,
    )


def code_location_answers(home: Home) -> bool:
    """Return True if the code location is loaded: its server opens the socket after that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(_code_socket(home)))
        except OSError:
            return False
    return True


def webserver_answers(port: int) -> bool:
    """Return True if the web interface answers."""
    return _request(port, "server_info") is not None


def load_error(port: int) -> str | None:
    """Return the error with which the web interface failed to load the code location, or None."""
    error = "locationOrLoadError {... on PythonError {message}}"
    answer = _request(
        port, "graphql", {"query": f"{{workspaceOrError {{... on Workspace {{locationEntries {{{error}}}}}}}}}"}
    )
    entries = answer["data"]["workspaceOrError"]["locationEntries"] if answer else []
    messages = [(entry["locationOrLoadError"] or {}).get("message") for entry in entries]
    return next((message.strip().splitlines()[0] for message in messages if message), None)


def daemon_answers(port: int) -> bool:
    """Return True if the web interface reports a heartbeat of every daemon that the instance needs."""
    query = "{instance {daemonHealth {allDaemonStatuses {healthy required}}}}"
    answer = _request(port, "graphql", {"query": query})
    if answer is None:
        return False
    statuses = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] or not status["required"] for status in statuses)


def _request(port: int, path: str, body: Mapping[str, str] | None = None) -> Any:
    found = http_probe.content(f"http://{ports.LOOPBACK}:{port}/{path}", timeout_s=10, body=body)
    return None if found is None else json.loads(found)


def _code_socket(home: Home) -> Path:
    return sockets.private_folder(home.dagster, owner=os.geteuid()) / "code.sock"
