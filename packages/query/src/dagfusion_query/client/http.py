"""A query service over HTTP, asked as the embedded engine is."""

import ipaddress
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from dagfusion_query.answers import Explanation, FilterEffect, Params, ScanExplanation, TableInfo
from dagfusion_query.client.http_result import HttpResult
from dagfusion_query.client.links import Links
from dagfusion_query.doors.http.params import write_params
from dagfusion_query.errors import EnvironmentUnavailableError

_REFRESH_TIMEOUT_S = 30.0
_LOOK_S = 0.05


class HttpConnection:
    """SQL at a query service. Thread-safe; a context manager.

    Args:
        url: `http://host:port` or `https://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._links = Links(url, token)
        self._codings = {} if _is_near(url) else {"Accept-Encoding": "zstd"}
        self._lock = threading.Lock()
        self._open: WeakSet[HttpResult] = WeakSet()  # who forgets a result gives it up

    def sql(self, query: str, params: Params = None) -> HttpResult:
        """Run a query.

        Args:
            query: One read-only statement.
            params: Values for `$1`, `$2`, ... as a sequence, or for `$name` as a mapping.

        Returns:
            The result, with its first batch on its way.

        Raises:
            StatementError: The statement cannot be run as it is written.
            ExecutionError: It failed while it ran.
            RequestError: The service does not take it.
        """
        started = time.perf_counter()
        body = {**_statement(query, params), "format": "arrow"}
        result = HttpResult(self._links, self._links.ask("POST", "/v1/sql", body, self._codings), started, self._ended)
        with self._lock:
            self._open.add(result)
        return result

    def explain(self, query: str, params: Params = None) -> Explanation:
        """Say which files a query would read, why it skips the others, and how DataFusion would run it."""
        said = self._links.document("POST", "/v1/explain", _statement(query, params))
        scans = [
            ScanExplanation(**{**scan, "filters": [FilterEffect(**effect) for effect in scan["filters"]]})
            for scan in said["scans"]
        ]
        return Explanation(scans, said["logical"], said["physical"], said["path"])

    def tables(self) -> list[TableInfo]:
        """Return the tables of the catalog, by name."""
        tables = self._links.document("GET", "/v1/tables?tables=full")["tables"]
        return sorted(map(_table, tables), key=lambda table: table.name)

    def refresh(self) -> None:
        """Return when the service's catalog has what the event logs had when this was called.

        Raises:
            EnvironmentUnavailableError: An event log cannot be read.
        """
        called = time.monotonic()
        while True:
            asked = time.monotonic()
            states = self._links.document("GET", "/v1/tables?tables=none")["environments"]
            behind = [s["name"] for s in states if s["age_s"] is None or asked - s["age_s"] < called]
            if not behind:
                return
            if asked - called > _REFRESH_TIMEOUT_S:
                raise EnvironmentUnavailableError(
                    f"the service at {self._links.shown} could not read the event log of {', '.join(behind)} for "
                    f"{_REFRESH_TIMEOUT_S:.0f} s"
                )
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Cancel the queries whose results are open, and let the connections go."""
        with self._lock:
            results = list(self._open)
        for result in results:
            result.cancel()
        self._links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ended(self, result: HttpResult) -> None:
        with self._lock:
            self._open.discard(result)


def _statement(query: str, params: Params) -> dict[str, object]:
    written = write_params(params)
    return {"sql": query} if written is None else {"sql": query, "params": written}


def _table(spec: Mapping[str, Any]) -> TableInfo:
    return TableInfo(
        f"{spec['schema']}.{spec['name']}",
        tuple(spec["asset_key"]),
        tuple(spec["partition_columns"]),
        {column["name"]: column["type"] for column in spec["columns"]},
        spec["partitions"],
        spec["rows"],
        spec["bytes"],
        None if spec["materialized_at"] is None else datetime.fromisoformat(spec["materialized_at"]),
        None if spec["problem"] is None else spec["problem"]["detail"],
        tuple(spec["warnings"]),
    )


def _is_near(url: str) -> bool:
    """Tell whether a service is on this machine, where compressing takes longer than sending."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
