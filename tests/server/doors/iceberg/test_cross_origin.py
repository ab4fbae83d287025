"""Web pages of other sites: refused, unless the operator names their origins."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from dagfusion_client.errors import SettingsError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from tests.http_servers import answering
from tests.server.doors.console.conftest import browser
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.conftest import TABLE
from tests.server.fake_service import FakeService

__all__ = ["browser"]

NAMED, OTHER = "http://localhost:9", "http://localhost:99"
ALLOWED, EXPOSED = "access-control-allow-origin", "access-control-expose-headers"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
FETCH = """async ([url, headers]) => {
    try {
        const answer = await fetch(url, {headers});
        return [answer.status, answer.headers.get("etag") !== null, await answer.json()];
    } catch (error) {
        return String(error);
    }
}"""


class EmptyPage(BaseHTTPRequestHandler):
    """An empty page: browsers let pages of no server ask no server of this machine."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()


@pytest.fixture
def page() -> Iterator[str]:
    """The origin of the page, which has another one by its address."""
    with answering(EmptyPage) as at_address:
        yield at_address.replace("127.0.0.1", "localhost")


@pytest.fixture
def url(
    service: FakeService, environments: list[EnvironmentConfig], tokens: Tokens, tmp_path: Path, page: str
) -> Iterator[str]:
    settings = ServiceSettings.read({"DAGFUSION_ICEBERG_ORIGINS": f"https://app.example.com, {NAMED}, {page}"})
    routes = IcebergRoutes(service, Config(settings, tuple(environments), tmp_path), tokens)
    with serving(service, tokens, settings, pages=routes.mounts()) as door:
        yield door.url


def test_pages_of_a_named_origin(url: str, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat_silver.orders"])
    with httpx.Client(base_url=url, trust_env=False, headers={"Origin": NAMED}) as client:
        asked = client.options(TABLE, headers=PREFLIGHT)
        assert (asked.status_code, asked.headers[ALLOWED]) == (204, NAMED)
        assert asked.headers["access-control-allow-headers"] == "Authorization, *"
        answers = [
            client.get(TABLE, headers={"Authorization": f"Bearer {secret}", "Sec-Fetch-Site": "cross-site"}),
            client.get(TABLE),
            client.get(f"{TABLE}s", headers={"Authorization": f"Bearer {secret}"}),
            client.post("/iceberg/v1/oauth/tokens", data={"grant_type": "client_credentials", "client_secret": secret}),
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 200]
    for answer in answers:
        found = (answer.headers[ALLOWED], answer.headers[EXPOSED], answer.headers["vary"])
        assert found == (NAMED, "ETag", "Origin")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", "http://localhost:9/", "HTTP://LOCALHOST:9", "http://localhost"])
def test_pages_of_other_origins(url: str, origin: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, headers={"Origin": origin}) as client:
        answers = [client.get(TABLE), client.options(TABLE, headers=PREFLIGHT)]
    for answer in answers:
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "ForbiddenException"
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_other_paths_stay_closed(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, headers={"Origin": NAMED}) as client:
        answer = client.get("/v1/tables")
    assert answer.status_code == 403
    assert ALLOWED not in answer.headers


def test_who_sends_no_origin_is_no_page(url: str) -> None:
    assert ALLOWED not in httpx.get(f"{url}{TABLE}", trust_env=False).headers
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert httpx.get(f"{url}{TABLE}", headers=embedded, trust_env=False).status_code == 403


def test_a_browser(url: str, page: str, browser: Browser, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat_silver.orders"])

    def fetched(opened: Page, path: str) -> Any:
        return opened.evaluate(FETCH, [f"{url}{path}", {"Authorization": f"Bearer {secret}"}])

    with browser.new_context() as context:
        opened = context.new_page()
        opened.goto(page)
        found = fetched(opened, TABLE)
        assert found[:2] == [200, True], found
        assert found[2]["metadata"]["format-version"] == 2
        assert fetched(opened, "/v1/tables") == "TypeError: Failed to fetch"
        opened.goto(page.replace("localhost", "127.0.0.1"))
        assert fetched(opened, TABLE) == "TypeError: Failed to fetch"


@pytest.mark.parametrize(
    "text",
    ["*", "app.example.com", "https://app.example.com/", "https://App.example.com", "https://*.example.com", "null"],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(SettingsError, match="DAGFUSION_ICEBERG_ORIGINS must be origins such as"):
        ServiceSettings.read({"DAGFUSION_ICEBERG_ORIGINS": f"http://localhost,{text}"})
