"""A browser, and a console in it over a mock service or a real one."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect, sync_playwright

from tests.query.console.mock import Mock

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
    """A mock that answers at a URL."""

    url: str
    mock: Mock


@pytest.fixture
def served() -> Iterator[Served]:
    mock = Mock()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(mock.app(), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", mock)
        server.should_exit = True
        thread.join()


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
    expect(opened.get_by_role("tree")).to_be_visible()
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
