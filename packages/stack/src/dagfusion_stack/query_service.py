"""The query service over the stack's event log and objects: HTTP with the console, and Arrow Flight SQL."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dagfusion_contract.setting_declarations import as_variables, declaration, declared
from dagfusion_contract.uri import bucket_url
from dagfusion_query.service_settings import ConfigSettings, ServiceSettings
from dagfusion_query.settings import Settings as QuerySettings
from dagfusion_stack import binaries, http_probe, ports, process
from dagfusion_stack.home import Home

NAME = "query service"
START_TIMEOUT_S = 60.0
_STACKS_OWN = ("http_address", "flight_address", "tls_certificate", "tls_key")  # loopback, without TLS


def require_free(http_port: int, flight_port: int) -> None:
    """Check that both ports can be listened on.

    Raises:
        PortBusyError: Something else listens there.
    """
    ports.require_free(http_port, f"the {NAME} (HTTP)", "--http-port")
    ports.require_free(flight_port, f"the {NAME} (Flight SQL)", "--flight-port")


def start(
    home: Home,
    http_port: int,
    flight_port: int,
    environ: Mapping[str, str],
    *,
    dagster_url: str,
    spark: Mapping[str, str],
) -> process.Child:
    """Start the service.

    Args:
        home: The state folder; the catalog's snapshots and the access tokens are kept in it.
        http_port: The port of HTTP and the console.
        flight_port: The port of Arrow Flight SQL.
        environ: The environment, with the stack's variables.
        dagster_url: Where Dagster's web interface is, for links.
        spark: The variables that name the stack's Spark Connect server; none if it has none.

    Raises:
        PortBusyError: Something else listens on a port.
    """
    require_free(http_port, flight_port)
    addresses = [f"--http-address={ports.LOOPBACK}:{http_port}", f"--flight-address={ports.LOOPBACK}:{flight_port}"]
    iceberg_metadata = f"{bucket_url(environ['S3_BUCKET'])}_iceberg"
    own = as_variables(QuerySettings, {"state_dir": home.service})
    own |= as_variables(ConfigSettings, {"dagster_url": dagster_url, "iceberg_metadata": iceberg_metadata})
    return process.start(
        NAME,
        [sys.executable, binaries.script("dagfusion-query", "dagfusion"), "serve", *addresses],
        mark=home.path,
        log=home.logs / "query-service.log",
        environ={**environ, **_limits(os.environ), **own, **spark},
    )


def tokens_file(home: Home) -> Path:
    """Return the file of the service's access tokens."""
    return Path(_limits(os.environ).get("DAGFUSION_TOKENS") or home.service / "tokens.json")


def urls(http_port: int, flight_port: int) -> str:
    """Return the URLs of the service."""
    return f"{console_url(http_port)} grpc://localhost:{flight_port}"


def console_url(http_port: int) -> str:
    """Return the URL of the service's console."""
    return f"http://localhost:{http_port}"


def answers(http_port: int) -> bool:
    """Return True if the service has its catalog and its workers."""
    return http_probe.content(f"http://{ports.LOOPBACK}:{http_port}/readyz", timeout_s=5) is not None


def _limits(variables: Mapping[str, str]) -> dict[str, str]:
    """Keep the settings that the user's shell may have of the service; where it listens is the stack's."""
    settings = [setting for setting in declared(ServiceSettings) if setting.name not in _STACKS_OWN]
    settings += [declaration(ConfigSettings, name) for name in ("iceberg_credentials", "iceberg_consolidated")]
    names = [setting.metadata["variable"] for setting in settings]
    set_ = {name: variables[name] for name in names if variables.get(name)}
    if "DAGFUSION_TOKENS" in set_:  # relative to this folder, as for `dagfusion token`
        set_["DAGFUSION_TOKENS"] = str(Path(set_["DAGFUSION_TOKENS"]).expanduser().absolute())
    return set_
