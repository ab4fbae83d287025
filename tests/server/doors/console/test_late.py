"""What comes late takes nothing from the user: no focus, no selection, no scroll position."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
from playwright.sync_api import Page, Route, expect

from tests.server.doors.console.conftest import Served, editor, run, until, write
from tests.server.doors.console.test_catalog import ORGANIZATIONS, open_table, point

RAW = "uat_silver_tax_id.raw_organizations"
HOLD_FRAMES = """() => {
    const [real, held] = [window.requestAnimationFrame, []];
    window.requestAnimationFrame = callback => -held.push(callback);
    window.releaseFrames = async () => {
        window.requestAnimationFrame = real;
        for (const each of held) each(performance.now());
        await window.frames_();
    };
}"""
FRAMES = """window.frames_ = async () => {
    for (let frame = 0; frame < 3; frame += 1)
        await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
}"""
PRESS = """window.press = (code, key, options) => (document.activeElement ?? document.body).dispatchEvent(
    new KeyboardEvent("keydown", { code, key, bubbles: true, composed: true, cancelable: true, ...options })
)"""


@pytest.fixture
def page(page: Page) -> Page:
    page.evaluate(FRAMES)
    page.evaluate(PRESS)
    return page


@contextmanager
def frames_held(page: Page) -> Iterator[None]:
    """Run no frame's callback until the end of the block, as a busy machine does."""
    page.evaluate(HOLD_FRAMES)
    yield
    page.evaluate("releaseFrames()")


@contextmanager
def held(page: Page, pattern: str, method: str = "GET") -> Iterator[list[Route]]:
    """Hold the requests to a pattern until the end of the block."""
    routes: list[Route] = []
    is_over = False

    def hold(route: Route) -> None:
        if is_over or route.request.method != method:
            route.continue_()
        else:
            routes.append(route)

    page.route(pattern, hold)
    yield routes
    is_over = True
    for route in routes:
        route.continue_()


def refresh(page: Page) -> None:
    """Make the catalog come again, with the focus where it is."""
    with page.expect_response("**/v1/tables") as answered:
        page.evaluate("document.querySelector('[aria-label=\"Refresh the catalog\"]').click()")
    answered.value.finished()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_search_takes_the_focus_once(page: Page, width: int) -> None:
    """Not again in a later frame, when the keys have moved on into the tree."""
    page.set_viewport_size({"width": width, "height": 740})
    expect(page.locator(f"[data-table='{RAW}']")).to_have_count(1)
    with frames_held(page):
        page.keyboard.press("Control+K")
        page.keyboard.type("raw")
        for _ in range(3):
            page.keyboard.press("ArrowDown")
    expect(page.locator(f"[data-table='{RAW}']")).to_be_focused()


def test_an_editor_takes_the_focus_once(page: Page) -> None:
    """When its tab opens; not after the next paint, when the focus may be elsewhere."""
    page.evaluate(
        """async () => {
            press("KeyN", "n", { altKey: true });
            await Promise.resolve();
            document.querySelector("[role=treeitem]").focus();
            await frames_();
        }"""
    )
    expect(page.get_by_role("treeitem").first).to_be_focused()


def test_a_key_is_for_the_tab_that_is_open(page: Page, served: Served) -> None:
    write(page, "select 1")
    page.evaluate(
        """async () => {
            press("KeyN", "n", { altKey: true });
            await Promise.resolve();
            press("Enter", "Enter", { ctrlKey: true });
        }"""
    )
    run(page, "select 2")
    assert served.service.statements == ["select 2"]


def test_arrows_walk_over_the_tabs(page: Page) -> None:
    for _ in range(3):
        page.keyboard.press("Alt+N")
    page.get_by_role("tab", name="Query 4").focus()
    for number in (3, 2, 1):
        page.keyboard.press("ArrowLeft")
        page.evaluate("frames_()")
        expect(page.get_by_role("tab", name=f"Query {number}")).to_be_focused()
    page.keyboard.press("Delete")
    expect(page.get_by_role("tab", name="Query 1")).to_have_count(0)
    expect(page.get_by_role("tab", name="Query 2")).to_be_focused()


def test_shown_columns_stay_while_the_table_grows(page: Page, served: Served) -> None:
    page.locator(f"[data-table='{ORGANIZATIONS}'] .tree-toggle").click()
    column = page.locator(".is-column").nth(3)
    column.focus()
    served.service.generation += 1
    with held(page, f"**/v1/tables/{ORGANIZATIONS.replace('.', '/')}") as asked:
        refresh(page)
        until(page, lambda: len(asked) == 1)
        expect(column).to_be_focused()
    expect(page.locator(".is-column")).to_have_count(5)
    expect(column).to_be_focused()


def test_a_table_that_goes_leaves_the_focus_in_the_tree(page: Page, served: Served) -> None:
    page.locator(f"[data-table='{ORGANIZATIONS}']").focus()
    served.service.hidden = {"partitioned_organizations"}
    served.service.generation += 1
    refresh(page)
    expect(page.locator(f"[data-table='{ORGANIZATIONS}']")).to_have_count(0)
    expect(page.locator(f"[data-table='{RAW}']")).to_be_focused()


def test_an_older_catalog_comes_too_late(page: Page, served: Served) -> None:
    served.service.generation += 1
    with held(page, "**/v1/tables") as asked:
        page.get_by_role("button", name="Refresh the catalog").click()
        until(page, lambda: len(asked) == 1)
        old = asked.pop()
        answer = old.fetch()
    served.service.hidden = {"raw_organizations"}
    served.service.generation += 1
    refresh(page)
    expect(page.locator(f"[data-table='{RAW}']")).to_have_count(0)
    with page.expect_response("**/v1/tables") as answered:
        old.fulfill(response=answer)
    answered.value.finished()
    page.evaluate("frames_()")
    expect(page.locator(f"[data-table='{RAW}']")).to_have_count(0)


def test_a_late_reason_does_not_scroll_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 400})
    open_table(page, ORGANIZATIONS)
    page.get_by_role("application").focus()
    with held(page, "**/history?partition_key=**") as asked:
        for key in ("ArrowRight", *["ArrowDown"] * 4, *["ArrowRight"] * 15, "Enter"):
            page.keyboard.press(key)
        until(page, lambda: len(asked) == 1)
        expect(page.get_by_role("button", name="Query the neighbours")).to_be_in_viewport()
        page.locator(".table-page").evaluate("page => page.scrollTo(0, 0)")
    expect(page.get_by_role("region", name="Missing partition")).to_contain_text("Never materialized")
    page.evaluate("frames_()")
    assert page.locator(".table-page").evaluate("page => page.scrollTop") == 0


def test_a_map_keeps_its_place_when_a_day_comes(page: Page, served: Served) -> None:
    open_table(page, ORGANIZATIONS)
    page.mouse.click(*point(page, "CA", date(2024, 1, 16)))
    hole = page.get_by_role("region", name="Missing partition")
    expect(hole).to_contain_text("Never materialized")
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="Show all")).to_be_enabled()
    served.service.days += 1
    served.service.generation += 1
    refresh(page)
    expect(page.get_by_role("application", name="366 by 50 partitions")).to_be_visible()
    expect(hole).to_contain_text("state = CA, date = 2024-01-16")
    expect(page.get_by_role("button", name="Show all")).to_be_enabled()
    expect(page.locator(".map-room [role=status]")).to_contain_text("state CA, date 2024-01-16")


def test_the_focus_stays_on_a_query_that_ends(page: Page, served: Served) -> None:
    write(page, "select slow")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Alt+Q")
    query = page.locator("[data-query=q1]")
    query.get_by_role("button", name="Cancel").focus()
    served.service.stop("q1")
    expect(query.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(query.get_by_role("button", name="select slow")).to_be_focused()


def test_the_focus_stays_in_the_rows_of_the_next_run(page: Page) -> None:
    run(page, "select 1")
    page.keyboard.press("Alt+R")
    with held(page, "**/v1/sql", "POST"):
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("grid")).to_have_count(0)
    expect(page.get_by_role("grid")).to_be_focused()


def test_a_cancelled_query_stays_cancelled(page: Page) -> None:
    """What the service says of its failure comes after."""
    write(page, "select broken")
    phase = page.locator("[data-phase]")
    with held(page, "**/v1/queries/q1") as asked:
        page.keyboard.press("Control+Enter")
        until(page, lambda: len(asked) == 1)
        editor(page).focus()
        page.keyboard.press("Escape")
        expect(phase).to_have_attribute("data-phase", "cancelled")
        answer = asked[0]
        with page.expect_response(lambda response: response.request == answer.request) as answered:
            asked.pop().continue_()
    answered.value.finished()
    page.evaluate("frames_()")
    expect(phase).to_have_attribute("data-phase", "cancelled")
