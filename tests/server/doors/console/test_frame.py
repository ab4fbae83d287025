"""What holds everywhere: access, queries, keyboard, colours, narrow windows, headers."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from dagfusion_client.documents.query_documents import QueryCost
from dagfusion_server.doors.console import POLICY
from tests.server.doors.console.conftest import Served, editor, run, write

pytestmark = pytest.mark.usefixtures("heavy")


def test_a_token_is_asked_for_and_forgotten(page: Page, served: Served) -> None:
    token = served.require_token()
    page.reload()
    question = page.get_by_role("dialog", name="Sign in")
    for _ in range(3):
        page.keyboard.press("Escape")
    question.get_by_label("Token").fill("dft_wrong")
    question.get_by_role("button", name="Sign in").click()
    expect(question.get_by_role("alert")).to_contain_text("the access token is not one of this service")
    question.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    expect(page.get_by_text("ada")).to_be_visible()
    run(page, "select 1")
    page.reload()
    expect(page.get_by_text("ada")).to_be_visible()  # kept as long as the browser's tab
    assert page.evaluate("JSON.stringify(localStorage)").count("dft_") == 0
    page.get_by_role("button", name="Sign out").click()
    expect(question).to_be_visible()
    assert page.evaluate("JSON.stringify(sessionStorage)").count("dft_") == 0


def test_running_queries_are_listed_and_cancelled(page: Page, context: BrowserContext, served: Served) -> None:
    write(page, "select slow")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    other = context.new_page()
    other.goto(served.url)
    other.get_by_role("button", name="Queries", exact=True).click()
    query = other.locator("[data-query=q1]")
    expect(query).to_contain_text("select slow")
    expect(query).to_contain_text("running")
    expect(query).to_contain_text("anonymous")
    query.get_by_role("button", name="Cancel").click()
    expect(query.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "cancelled")


def test_older_queries_of_the_history_are_listed_with_their_costs(page: Page, served: Served) -> None:
    start = datetime(2026, 1, 2, tzinfo=UTC)
    for number in range(150):
        served.service.remember(f"old{number}", "ann")
        cost = QueryCost(0.0004, 0.002, "2025-06-01") if number == 149 else None
        served.service.known[f"old{number}"] = replace(
            served.service.known[f"old{number}"], ended_at=start + timedelta(seconds=number), cost=cost
        )
    page.get_by_role("button", name="Queries", exact=True).click()
    queries = page.locator("[data-query^=old]")
    expect(queries).to_have_count(100)
    expect(queries.first).to_contain_text("$0.0024")
    page.get_by_role("button", name="Older queries").click()
    expect(queries).to_have_count(150)
    expect(queries.last).to_have_attribute("data-query", "old0")
    page.get_by_role("button", name="Older queries").click()
    expect(page.get_by_role("button", name="Older queries")).to_have_count(0)
    expect(queries).to_have_count(150)


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    """From the search over a table to a query, its rows and the help, without a pointer."""
    expect(page.locator("[data-table]").first).to_be_visible()
    page.keyboard.press("Control+K")
    page.keyboard.type("raw")
    page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(page.locator("[data-table='uat_silver_tax_id.raw_organizations']")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".is-column")).to_have_count(2)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="raw_organizations")).to_be_visible()
    page.keyboard.press("Alt+N")
    expect(editor(page)).to_be_focused()
    page.keyboard.type("select 1")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("row-count")).to_be_visible()
    page.keyboard.press("Alt+R")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".is-cursor")).to_have_attribute("data-row", "1")
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    expect(help_).to_be_visible()
    page.keyboard.press("Escape")
    expect(help_).to_have_count(0)
    page.keyboard.press("Alt+E")
    expect(editor(page)).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(editor(page)).not_to_be_focused()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_search_takes_the_keys_that_follow(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    editor(page).focus()
    page.keyboard.press("Control+K")
    if width == 390:  # where it is in a drawer that opens first
        expect(page.get_by_label("Search tables")).to_be_focused()
    page.keyboard.type("raw")
    expect(page.get_by_label("Search tables")).to_have_value("raw")


def test_every_focus_is_seen(page: Page) -> None:
    """By an outline; the bars between panes change their colour, and the editor has its caret."""
    run(page, "select 1")
    page.locator("#catalog-search").focus()
    unseen = """() => {
        const { classList, outerHTML } = document.activeElement;
        const isOwn = classList.contains("splitter") || classList.contains("editor");
        const isOutlined = getComputedStyle(document.activeElement).outlineStyle === "solid";
        return isOwn || isOutlined ? null : outerHTML.slice(0, 120);
    }"""
    assert [text for _ in range(14) if (text := _tabbed(page, unseen)) is not None] == []


def _tabbed(page: Page, script: str) -> str | None:
    page.keyboard.press("Escape")  # the editor keeps the key unless it follows this one
    page.keyboard.press("Tab")
    found: str | None = page.evaluate(script)
    return found


@pytest.mark.parametrize(("scheme", "theme", "toggled"), [("dark", "dark", "light"), ("light", "light", "dark")])
def test_colours_are_the_systems_until_they_are_chosen(page: Page, scheme: str, theme: str, toggled: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", theme)
    page.keyboard.press("Alt+D")
    expect(root).to_have_attribute("data-theme", toggled)
    page.reload()
    expect(root).to_have_attribute("data-theme", toggled)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = min(int(part) for part in re.findall(r"\d+", background)[:3]) > 128
    assert light == (toggled == "light")


def test_a_phone_is_wide_enough(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})

    def check() -> None:
        """Once what moves has come to rest."""
        page.evaluate("Promise.allSettled(document.getAnimations().map(each => each.finished))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        outside = page.evaluate(
            """() => [...document.querySelectorAll("button, select, h2, h3, input")]
                .filter(each => each.checkVisibility({ visibilityProperty: true }))
                .filter(each => !each.closest(".tabs-list, .grid, .table-scroll, .sidebar:not(.is-shown)"))
                .filter(each => each.getBoundingClientRect().right > 361)
                .map(each => each.outerHTML.slice(0, 120))"""
        )
        assert outside == []

    run(page, "select 1")
    check()
    for view, shown in (("Chart", page.locator(".chart-canvas canvas")), ("Scan", page.locator(".scan .plain"))):
        page.get_by_role("tab", name=view).click()
        expect(shown).to_be_visible()
        check()
    page.get_by_role("button", name="Catalog", exact=True).click()
    check()
    page.locator("[data-table='uat_silver_tax_id.partitioned_organizations'] .tree-name").click()
    expect(page.get_by_role("application")).to_be_visible()
    expect(page.locator(".sidebar.is-shown")).to_have_count(0)
    check()
    page.get_by_role("button", name="Queries", exact=True).click()
    check()


def test_a_service_that_is_gone_is_told_and_asked_again(page: Page) -> None:
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("button", name="Refresh the catalog").click()
    environment = page.get_by_label("Environments").get_by_role("listitem").first
    expect(environment).to_contain_text("is down")
    page.locator("[data-table='uat_silver_tax_id.partitioned_organizations'] .tree-name").click()
    expect(page.get_by_role("alert")).to_contain_text("it is down, or the network is")
    page.unroute("**/v1/**")
    expect(page.get_by_role("application")).to_be_visible()
    expect(environment).to_contain_text("is up")
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("tab", name="Query 1").click()
    write(page, "select 1")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")


def test_files_come_with_their_types_and_a_policy(served: Served) -> None:
    index = httpx.get(served.url)
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.headers["content-security-policy"] == POLICY
    assert index.headers["cache-control"] == "no-cache"
    assert "unsafe" not in POLICY
    again = httpx.get(served.url, headers={"If-None-Match": index.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assets = re.findall(r'"(/assets/[^"]+)"', index.text)
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    assert assets
    for path in assets:
        asset = httpx.get(served.url + path)
        assert asset.headers["content-type"] == types[path[path.rindex(".") :]]
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["content-encoding"] == "gzip"
        plain = httpx.get(served.url + path, headers={"Accept-Encoding": "identity"})
        assert plain.content == asset.content
    assert httpx.get(f"{served.url}/assets/none.js").status_code == 404
    assert httpx.get(f"{served.url}/assets/../index.html").status_code == 404


def test_the_page_has_no_inline_script_or_style(served: Served) -> None:
    text = httpx.get(served.url).text
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style|\bstyle=|\bon\w+=", text) == []
    assert re.findall(r"https?://", text) == []
