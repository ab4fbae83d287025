"""Settings of the service: addresses, limits, access. Variables come before `[service]` of `dagfusion.toml`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dagfusion_query.errors import SettingsError

ANONYMOUS = ("auto", "loopback", "never", "always")
_CORES = os.cpu_count() or 1


def _setting(variable: str, default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"variable": variable, "help": help_text})


@dataclass(frozen=True)
class ServiceSettings:
    """Everything the service can be told beside its environments."""

    http_address: str = _setting("DAGFUSION_HTTP_ADDRESS", "127.0.0.1:8080", "Host and port of HTTP and the console.")
    flight_address: str = _setting("DAGFUSION_FLIGHT_ADDRESS", "127.0.0.1:8081", "Host and port of Arrow Flight SQL.")
    tls_certificate: str | None = _setting("DAGFUSION_TLS_CERTIFICATE", None, "PEM file: the certificate's chain.")
    tls_key: str | None = _setting("DAGFUSION_TLS_KEY", None, "PEM file: the certificate's key.")
    tokens: str | None = _setting("DAGFUSION_TOKENS", None, "The file of access tokens; else in the state folder.")
    anonymous: str = _setting(
        "DAGFUSION_ANONYMOUS",
        "auto",
        "Who may connect without a token. auto: programs on this machine, until the first token is created. never: "
        "nobody. loopback: programs on this machine, even after tokens are created. DANGER: a proxy on this machine "
        "that adds no Forwarded header looks like such a program, and all its clients can read everything. always: "
        "everybody.",
    )
    workers: int = _setting("DAGFUSION_WORKERS", _CORES, "Statements that run at once, each in a process.")
    worker_memory_bytes: int = _setting(
        "DAGFUSION_WORKER_MEMORY_BYTES", 4 << 30, "Memory of one worker; the operating system enforces it too."
    )
    sql_limit_bytes: int = _setting("DAGFUSION_SQL_LIMIT_BYTES", 1 << 20, "Length of a statement's text.")
    query_timeout_s: float = _setting("DAGFUSION_QUERY_TIMEOUT_S", 300.0, "Seconds a query may take in all.")
    client_stall_s: float = _setting(
        "DAGFUSION_CLIENT_STALL_S", 60.0, "Seconds a client may take none of its result before the query is cancelled."
    )
    result_limit_rows: int = _setting("DAGFUSION_RESULT_LIMIT_ROWS", 1_000_000_000, "Rows of one result.")
    result_limit_bytes: int = _setting("DAGFUSION_RESULT_LIMIT_BYTES", 64 << 30, "Bytes of one result.")
    user_queries: int = _setting(
        "DAGFUSION_USER_QUERIES", _CORES, "Queries that one user may have running; others of the user's wait."
    )
    queue_length: int = _setting("DAGFUSION_QUEUE_LENGTH", 256, "Queries that may wait for a worker, in all.")
    user_queue_length: int = _setting("DAGFUSION_USER_QUEUE_LENGTH", 128, "Queries of one user that may wait.")
    queue_timeout_s: float = _setting("DAGFUSION_QUEUE_TIMEOUT_S", 30.0, "Seconds a query may wait for a worker.")
    cancel_grace_s: float = _setting(
        "DAGFUSION_CANCEL_GRACE_S", 0.3, "Seconds a cancelled statement has to yield before its worker is killed."
    )
    history_queries: int = _setting("DAGFUSION_HISTORY_QUERIES", 1000, "Finished queries that are remembered.")

    @classmethod
    def read(cls, variables: Mapping[str, str], table: Mapping[str, Any] | None = None) -> "ServiceSettings":
        """Make settings from variables and, for what they do not say, a table of values by field name.

        Raises:
            SettingsError: A value is one that its setting cannot have, or the table names no setting.
        """
        given = dict(table or {})
        if unknown := sorted(given.keys() - {setting.name for setting in fields(cls)}):
            raise SettingsError(f"[service] has no settings {', '.join(unknown)}: see docs/reference/settings.md")
        values = {s.name: _value(s, f"[service] {s.name}", given[s.name]) for s in fields(cls) if s.name in given}
        for setting in fields(cls):
            variable = setting.metadata["variable"]
            if variables.get(variable):
                values[setting.name] = _value(setting, variable, variables[variable])
        settings = cls(**values)
        if settings.anonymous not in ANONYMOUS:
            allowed = ", ".join(ANONYMOUS)
            raise SettingsError(f"DAGFUSION_ANONYMOUS must be one of {allowed}, got {settings.anonymous!r}")
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise SettingsError("DAGFUSION_TLS_CERTIFICATE and DAGFUSION_TLS_KEY go together: set both or neither")
        return settings


def _value(setting: Any, where: str, given: Any) -> Any:
    kind = type(setting.default)
    if kind not in (int, float):
        return str(given)
    try:
        value = kind(given)
    except (TypeError, ValueError):
        value = 0
    if value <= 0:
        raise SettingsError(f"{where} must be a positive {'whole ' if kind is int else ''}number, got {given!r}")
    return value
