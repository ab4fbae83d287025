"""The Sail server of `dagfusion up --distributed`: a Spark Connect server over the query service's Iceberg catalog.

Its workers are threads of its process. It has no permissions of its own and listens on loopback only; it reads the
catalog with a token of its own. Creating this token does not end anonymous access, unlike `dagfusion token create`.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dagfusion_client.errors import SettingsError, UnauthenticatedError
from dagfusion_contract.setting_declarations import as_variables, declaration
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_stack import binaries, ports, process
from dagfusion_stack.errors import MissingExtraError, ServerError
from dagfusion_stack.home import Home, write_private

if TYPE_CHECKING:
    from dagfusion_query.access.authentication import Tokens

NAME = "Sail server"
START_TIMEOUT_S = 60.0
WORKERS = 2
# Sail makes a task of each partition of a scan that reads a partition column. Its work grows with the square of their
# number.
TASK_SLOTS = 256  # of a worker
ATTEMPTS = 5  # a port that was chosen may be another's a moment later, when the server wants it
_LIBRARIES = {"pysail": "pysail", "grpc": "grpcio"}
_CATALOG = declaration(ServiceSettings, "spark_catalog").default


def require_installed() -> None:
    """Check that the extra `distributed` is installed.

    Raises:
        MissingExtraError: A library of it is missing.
    """
    for module, library in _LIBRARIES.items():
        if util.find_spec(module) is None:
            raise MissingExtraError(
                f"`dagfusion up --distributed` needs {library}, which is not installed: pip install "
                "'dagfusion-stack[distributed]', or in a checkout `uv sync --extra distributed`"
            )


def start(launch: Callable[[int], process.Child]) -> tuple[process.Child, int]:
    """Start the server on a free port, and wait until it listens.

    Args:
        launch: Starts the server on a port.

    Returns:
        The server and its port.

    Raises:
        ServerError: It did not start.
    """
    for attempt in range(1, ATTEMPTS + 1):
        [port] = ports.free_ports(1)
        child = launch(port)
        try:
            child.wait_ready(partial(_listens, child, port), timeout_s=START_TIMEOUT_S)
        except BaseException as error:
            child.stop()
            if not isinstance(error, ServerError) or attempt == ATTEMPTS or ports.is_free(port):
                raise
        else:
            break
    return child, port


def launch(home: Home, port: int, environ: Mapping[str, str], *, http_port: int, token: str) -> process.Child:
    """Start the server on a port, without waiting for it.

    Args:
        home: The state folder.
        port: The port of Spark Connect.
        environ: The environment, with the stack's variables.
        http_port: The port of the query service, which has the Iceberg catalog.
        token: Reads that catalog.

    Raises:
        PortBusyError: Something else listens on the port.
    """
    ports.require_free(port, f"the {NAME}", "a new start of the stack")
    address = ("--ip", ports.LOOPBACK, "--port", str(port))
    catalog = {
        "type": "iceberg-rest",
        "name": _CATALOG,
        "uri": f"http://{ports.LOOPBACK}:{http_port}/iceberg",
        "bearer_access_token": token,
    }
    own = {
        "SAIL_MODE": "local-cluster",
        "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(WORKERS),
        "SAIL_CLUSTER__WORKER_MAX_COUNT": str(WORKERS),
        "SAIL_CLUSTER__WORKER_TASK_SLOTS": str(TASK_SLOTS),
        "SAIL_CATALOG__LIST": f"[{{{', '.join(f'{key}={json.dumps(value)}' for key, value in catalog.items())}}}]",
        "AWS_ALLOW_HTTP": "true",
    }
    variables = {name: value for name, value in environ.items() if not name.startswith("SAIL_")}
    return process.start(
        NAME,
        [sys.executable, binaries.script("pysail", "sail"), "spark", "server", *address],
        mark=home.path,
        log=home.logs / "sail.log",
        environ={**variables, **own},
    )


def url(port: int) -> str:
    """Return the URL of the server."""
    return f"sc://{ports.LOOPBACK}:{port}"


def of_service(port: int) -> dict[str, str]:
    """Return the variables by which the query service finds the server."""
    return as_variables(ServiceSettings, {"spark_remote": url(port), "spark_catalog": _CATALOG})


def token(home: Home, tokens_file: Path) -> str:
    """Return the secret of the server's token: that of the last start, or a new one.

    Args:
        home: The state folder, which keeps the secret.
        tokens_file: The tokens of the query service.

    Raises:
        ServerError: The file of tokens cannot be used.
    """
    from dagfusion_query.access.authentication import Tokens  # noqa: PLC0415  # imports pyarrow, as grants do
    from dagfusion_query.grant_names import EVERYTHING  # noqa: PLC0415

    tokens, kept = Tokens(tokens_file), home.path / "sail-token"
    name = f"sail-{hashlib.sha256(str(home.path).encode()).hexdigest()[:12]}"  # stacks may share a file of tokens
    try:
        if kept.exists() and _is_valid(tokens, secret := kept.read_text().strip()):
            return secret
        if any(one.name == name and one.revoked is None for one in tokens.list()):
            tokens.revoke(name)
        secret = tokens.create(name, [EVERYTHING], is_internal=True)
    except SettingsError as error:
        raise ServerError(f"the {NAME} has no token: {error}") from error
    write_private(kept, secret)
    return secret


def _is_valid(tokens: "Tokens", secret: str) -> bool:
    try:
        tokens.authenticate(secret)
    except UnauthenticatedError:
        return False
    return True


def _listens(child: process.Child, port: int) -> bool:
    """Return True if the server, and not another program, listens on the port."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(child.process.pid).net_connections("inet")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
    return False
