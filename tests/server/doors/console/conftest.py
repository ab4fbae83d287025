"""A browser, and a console in it over a fake service or a real one."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect, sync_playwright

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors import console
from tests.server.doors.console.console_service import ConsoleService
from tests.server.doors.http.serving import serving

# The headless shell renders the same and takes a third less CPU time.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), "chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REQUIRED = "DAGFUSION_REQUIRE_BROWSER" in os.environ
PATIENCE_S = 30.0  # for a busy machine
expect.set_options(timeout=PATIENCE_S * 1000)


def need(program: str) -> None:
    """Skip what needs a program that is not there, unless it has to be."""
    if shutil.which(program) is None:
        message = f"{program} is not installed"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)


@dataclass
class Served:
    """The application over a fake service, at a URL."""

    url: str
    service: ConsoleService
    tokens: Tokens

    def require_token(self) -> str:
        """Have requests need a token from now on, and return one."""
        return self.tokens.create("ada", ["*"])


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings()


@pytest.fixture
def served(tmp_path: Path, settings: ServiceSettings) -> Iterator[Served]:
    service, tokens = ConsoleService(), Tokens(tmp_path / "tokens.json")
    with serving(service, tokens, settings, pages=console.routes()) as door:
        yield Served(door.url, service, tokens)


@pytest.fixture(scope="module")  # its event loop counts as running in this thread as long as it is open
def browser() -> Iterator[Browser]:
    need(CHROMIUM)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    opened.set_default_timeout(PATIENCE_S * 1000)
    opened.grant_permissions(["clipboard-read", "clipboard-write"])
    # The browser needs a moment to turn interception on, and may not intercept a request right after a page's first
    # route. So a route that matches no request turns it on here.
    opened.route("**/no-such-path", lambda route: route.abort())
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, served: Served) -> Iterator[Page]:
    """The console, open; at the end of a test it must not have said anything, nor asked anybody else."""
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(f"error: {error}"))
    opened.on("console", lambda said: problems.append(said.text) if said.type in {"error", "warning"} else None)
    opened.on("request", lambda request: _check_host(request, served.url, problems))
    opened.goto(served.url)
    expect(opened.locator("[data-table]").first).to_be_visible()
    yield opened
    # The browser itself reports refused requests; the tests that make some expect those.
    assert [text for text in problems if "Failed to load resource" not in text] == []


def _check_host(request: Request, url: str, problems: list[str]) -> None:
    asked = urlsplit(request.url)
    if asked.scheme != "blob" and asked.netloc != urlsplit(url).netloc:
        problems.append(f"asked {request.url}")
    if "dft_" in request.url:
        problems.append(f"a token in {request.url}")


def editor(page: Page) -> Locator:
    return page.locator(".cm-content")


def write(page: Page, text: str) -> None:
    """Replace the editor's text, as by pasting."""
    editor(page).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(text)


def run(page: Page, text: str) -> None:
    """Run a statement to its end."""
    write(page, text)
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "finished", timeout=30_000)


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait until something holds that no locator tells; the page goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        page.wait_for_timeout(20)
