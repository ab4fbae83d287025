"""Statements: typed, completed, run, wrong, cancelled, kept."""

import re

from playwright.sync_api import Page, expect

from dagfusion_client.documents.query_documents import State
from tests.server.doors.console.conftest import Served, editor, run, until, write

FILTERED = "select npi from uat_silver_tax_id.partitioned_organizations"


def test_what_is_typed_becomes_rows(page: Page, served: Served) -> None:
    editor(page).click()
    page.keyboard.press("Control+A")
    page.keyboard.type("select * from uat_silver_tax_id.raw_organizations", delay=5)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    grid = page.get_by_role("grid")
    expect(page.get_by_test_id("row-count")).to_have_text("48 rows")
    expect(grid.get_by_role("columnheader")).to_have_text(
        ["npiint64", "namestring", "statestring", "datedate", "scorefloat64"]
    )
    expect(grid.locator("[data-row='0'][data-column='0']")).to_have_text("1003000126")
    expect(grid.locator("[data-row='0'][data-column='3']")).to_have_text("2024-01-01")
    assert served.service.statements[-1] == "select * from uat_silver_tax_id.raw_organizations"


def test_null_is_not_the_empty_text(page: Page) -> None:
    run(page, "select 1")
    expect(page.locator("[data-row='2'][data-column='1'] .is-null")).to_have_text("NULL")
    expect(page.locator("[data-row='3'][data-column='1'] .is-empty")).to_have_text("empty")


def test_values_keep_every_digit(page: Page) -> None:
    page.set_viewport_size({"width": 2400, "height": 800})
    run(page, "select kinds")
    cells = page.locator("[data-row='0'][data-column]")
    expect(cells).to_have_text(
        [
            "9007199254740993",
            "-1234.50",
            "2024-01-15 12:30:05.123456Z",
            "2024-01-15 12:30:05.123456789",
            "1969-12-31",
            "true",
            r"\x01ff",
            "[1,null,3]",
            '{"a":1,"b":"x"}',
            "00:01:01.5",
        ]
    )


def test_an_error_is_marked_at_its_place(page: Page) -> None:
    write(page, "select 1;\n\nselect npi\nfron syntax")
    page.keyboard.press("Control+Enter")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("syntax error")
    expect(problem).to_contain_text("line 2, column 6")
    expect(problem).to_contain_text("found: fron")
    marked = page.locator(".cm-lintRange-error")
    expect(marked).to_have_text("syntax")  # line 2, column 6 of the second statement
    marked.hover()
    expect(page.locator(".cm-tooltip-lint")).to_contain_text("found: fron")
    run(page, "select 1")
    expect(page.locator(".cm-lintRange-error")).to_have_count(0)


def test_the_statement_at_the_cursor_runs_or_the_selection(page: Page, served: Served) -> None:
    write(page, "select 1;\nselect 2")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("row-count")).to_be_visible()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Enter")
    for _ in "select":
        page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_test_id("row-count")).to_be_visible()
    page.keyboard.press("Control+Enter")
    until(page, lambda: len(served.service.statements) == 3)
    assert served.service.statements == ["select 2", "select 1", "select"]


def test_typing_over_a_selection_keeps_to_the_policy(page: Page) -> None:
    write(page, "select 'a'")
    page.keyboard.press("Control+A")
    page.keyboard.type("(")
    expect(editor(page)).to_have_text("(select 'a')")
    page.keyboard.type("x")
    expect(editor(page)).to_have_text("(x)")


def test_escape_cancels_before_the_first_row(page: Page, served: Served) -> None:
    write(page, "select slow")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "cancelled")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    expect(page.get_by_text("Cancelled before the first row.")).to_be_visible()
    until(page, lambda: served.service.known["q1"].state is State.cancelled)


def test_cancelling_amid_rows_tells_the_service_and_keeps_them(page: Page, served: Served) -> None:
    write(page, "select stall")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("row-count")).to_have_text("30,000 rows")  # while it still runs
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "cancelled")
    expect(page.get_by_test_id("row-count")).to_have_text("30,000 rows")
    until(page, lambda: served.service.known["q1"].state is State.cancelled)


def test_a_stream_without_an_end_is_an_error_and_the_service_says_which(page: Page, served: Served) -> None:
    write(page, "select stall")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("row-count")).to_have_text("30,000 rows")
    served.service.break_off("q1")
    expect(page.get_by_role("alert")).to_contain_text("the worker crashed during this statement")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "failed")
    expect(page.get_by_test_id("row-count")).to_have_text("30,000 rows")


def test_a_stream_that_breaks_at_once_is_an_error_of_its_query(page: Page) -> None:
    """The browser drops what it has not given yet: there may be no row."""
    write(page, "select broken")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("the worker crashed during this statement")
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "failed")


def test_completion_knows_tables_and_columns(page: Page) -> None:
    write(page, "select * from uat_sil")
    options = page.locator(".cm-tooltip-autocomplete li")
    page.keyboard.press("Control+Space")
    expect(options.first).to_contain_text("uat_silver_tax_id")
    write(page, "select split_pa")
    page.keyboard.press("Control+Space")
    expect(options.filter(has_text="split_part")).to_have_count(1)
    write(page, "select  from uat_silver_tax_id.partitioned_organizations o where o.st")
    page.keyboard.press("Control+Space")
    expect(options.first).to_contain_text("state")
    expect(options.first).to_contain_text("partition")
    page.wait_for_timeout(200)  # what has just come up takes no key yet, so that nobody accepts it unseen
    page.keyboard.press("Enter")
    expect(editor(page)).to_have_text(re.compile(r"where o\.state$"))


def test_tabs_survive_a_reload(page: Page) -> None:
    write(page, "select 'first'")
    page.keyboard.press("Alt+N")
    write(page, "select 'second'")
    page.get_by_role("tab", name="Query 2").dblclick()
    page.get_by_label("Tab name").fill("Orders by day")
    page.keyboard.press("Enter")
    page.reload()
    expect(page.get_by_role("tab", name="Orders by day")).to_have_attribute("aria-selected", "true")
    expect(editor(page)).to_have_text("select 'second'")
    page.get_by_role("tab", name="Query 1").click()
    expect(editor(page)).to_have_text("select 'first'")
    page.get_by_role("button", name="Close Query 1").click()
    expect(page.get_by_role("tab", name="Query 1")).to_have_count(0)


def test_history_keeps_what_ran(page: Page) -> None:
    run(page, "select 'remember me'")
    page.keyboard.press("Alt+Q")
    history = page.get_by_role("region", name="History")
    history.get_by_text("select 'remember me'").click()
    expect(editor(page)).to_have_text("select 'remember me'")
