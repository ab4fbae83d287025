"""A query service over HTTP, asked as the embedded engine is."""

import ipaddress
import time
from urllib.parse import urlsplit

from dagfusion_query.answers import Explanation
from dagfusion_query.client.http_result import HttpResult
from dagfusion_query.client.links import Links
from dagfusion_query.client.remote import RemoteConnection
from dagfusion_query.documents.catalog import TablesDocument
from dagfusion_query.doors.http.params import write_params
from dagfusion_query.formats.result_format import Format
from dagfusion_query.parameters import Params
from dagfusion_query.sql_text import check_text


class HttpConnection(RemoteConnection):
    """SQL at a query service. Thread-safe; a context manager.

    Args:
        url: `http://host:port` or `https://host:port`.
        token: The access token; None where the service wants none.

    Raises:
        SettingsError: The URL or the token is none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._links = Links(url, token)
        super().__init__(self._links.shown)
        self._codings = {} if _is_near(url) else {"Accept-Encoding": "zstd"}

    def sql(self, query: str, params: Params = None) -> HttpResult:
        """Run a query; see `Connection.sql`."""
        started = time.perf_counter()
        body = {**_statement(query, params), "format": Format.arrow.value}
        result = HttpResult(self._links, self._links.ask("POST", "/v1/sql", body, self._codings), started, self._ended)
        self._opened(result)
        return result

    def explain(self, query: str, params: Params = None) -> Explanation:
        """Say which files a query would read, why it skips the others, and how DataFusion would run it."""
        return self._links.document(Explanation, "POST", "/v1/explain", _statement(query, params))

    def _catalog(self, tables: str) -> TablesDocument:
        return self._links.document(TablesDocument, "GET", f"/v1/tables?tables={tables}")

    def _disconnect(self) -> None:
        self._links.close()


def _statement(query: str, params: Params) -> dict[str, object]:
    check_text(query)
    written = write_params(params)
    return {"sql": query} if written is None else {"sql": query, "params": written}


def _is_near(url: str) -> bool:
    """Tell whether a service is on this machine, where compressing takes longer than sending."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
