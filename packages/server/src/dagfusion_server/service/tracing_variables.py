"""The standard variables of OpenTelemetry, from which a service sends traces; read before OpenTelemetry is imported."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dagfusion_client.errors import SettingsError, needs

if TYPE_CHECKING:
    from dagfusion_server.service.tracing import Traces

_PROTOCOL = "http/protobuf"


def configured_traces(variables: Mapping[str, str], dagster_urls: Mapping[str, str] | None = None) -> "Traces | None":
    """Return what sends traces; None if the standard variables of OpenTelemetry name no endpoint, or turn it off.

    Args:
        variables: The environment variables of the process.
        dagster_urls: The address of Dagster's web interface by environment.

    Raises:
        SettingsError: The protocol is not `http/protobuf`, the endpoint is no URL of HTTP, or another variable has no
            value that OpenTelemetry takes.
        MissingExtraError: The extra `otel` is not installed.
    """
    endpoint, exporters = _exporter_variable(variables, "ENDPOINT"), variables.get("OTEL_TRACES_EXPORTER") or "otlp"
    is_off = variables.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_off or endpoint is None or "otlp" not in [name.strip() for name in exporters.split(",")]:
        return None
    if not endpoint[1].lower().startswith(("http://", "https://")):
        raise SettingsError(f"{endpoint[0]} must begin with http:// or https://, got {endpoint[1]!r}")
    if (protocol := _exporter_variable(variables, "PROTOCOL")) is not None and protocol[1] != _PROTOCOL:
        raise SettingsError(f"{protocol[0]} must be {_PROTOCOL} for this service, got {protocol[1]!r}")
    with needs("otel", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        from dagfusion_server.service.tracing import Traces  # noqa: PLC0415  # an extra
    try:
        return Traces(dagster_urls=dagster_urls)
    except ValueError as error:
        raise SettingsError(f"a variable of OpenTelemetry (OTEL_...) is not valid: {error}") from error


def _exporter_variable(variables: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """Return the variable of the exporter that counts, and its value: that of traces, else that of all signals."""
    names = (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}")
    return next(((one, value) for one in names if (value := variables.get(one))), None)
