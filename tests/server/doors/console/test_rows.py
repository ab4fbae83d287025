"""The grid: a million rows, selections, copies, widths; and what else a result becomes."""

import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.server.doors.console.conftest import Served, run, write


def cell(page: Page, row: int, column: int) -> Locator:
    return page.locator(f"[data-row='{row}'][data-column='{column}']")


def clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_a_million_rows_scroll_to_the_end(page: Page) -> None:
    run(page, "select million")
    expect(page.get_by_test_id("row-count")).to_have_text("1,000,000 rows", timeout=30_000)
    grid = page.get_by_role("grid")
    expect(grid).to_have_attribute("aria-rowcount", "1000001")
    grid.focus()
    page.keyboard.press("Control+End")
    expect(cell(page, 999_999, 0)).to_have_text("999999")
    expect(cell(page, 999_999, 0)).to_be_in_viewport()
    grid.evaluate("grid => grid.scrollTo(0, grid.scrollHeight / 2)")
    first = page.locator(".grid-cell").first
    expect(first).to_have_attribute("data-row", re.compile(r"^(4[89]|5[01])\d{4}$"))
    middle = first.get_attribute("data-row") or ""
    grid.hover()
    page.mouse.wheel(0, 260)  # ten rows, not ten thousand
    expect(first).not_to_have_attribute("data-row", middle)
    expect(page.locator(f"[data-row='{int(middle) + 15}']").first).to_be_visible()
    assert page.locator(".grid-row").count() < 60  # only what is seen is there


def test_a_frame_shows_the_rows_that_it_scrolls_to(page: Page) -> None:
    """In the frame itself, without a blank, and with no more elements than the window has room for."""
    run(page, "select million")
    expect(page.get_by_test_id("row-count")).to_have_text("1,000,000 rows", timeout=30_000)
    frames: list[dict[str, float]] = page.get_by_role("grid").evaluate(
        """async grid => {
            const frames = [];
            const box = grid.getBoundingClientRect();
            for (let step = 0; step < 40; step += 1) {
                grid.scrollTop = step * 150_000;
                await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
                const rows = [...grid.querySelectorAll(".grid-row")].map(row => row.getBoundingClientRect());
                const top = Math.min(...rows.map(row => row.top)) - box.top;
                const bottom = box.top + grid.clientHeight - Math.max(...rows.map(row => row.bottom));
                frames.push({ rows: rows.length, top, bottom });
            }
            return frames;
        }"""
    )
    assert max(frame["rows"] for frame in frames) < 60
    assert max(frame["top"] for frame in frames) <= 45  # the header, and its border
    assert max(frame["bottom"] for frame in frames) <= 0


def test_cells_are_selected_and_copied(page: Page) -> None:
    run(page, "select 1")
    cell(page, 0, 0).click()
    page.keyboard.press("Control+C")
    expect(page.get_by_text("Copied 1 cell")).to_be_visible()
    assert clipboard(page) == "1003000126"
    cell(page, 2, 2).click(modifiers=["Shift"])
    page.keyboard.press("Control+C")
    expect(page.get_by_text("Copied 9 cells")).to_be_visible()
    assert clipboard(page).split("\n") == [
        "1003000126\tAlder Street Clinic\tAK",
        "1003000133\tBay Dental\tAL",
        "1003000140\t\tAR",
    ]
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+C")
    expect(page.get_by_text("Copied 240 cells")).to_be_visible()


def test_a_button_copies_what_is_selected_or_all(page: Page) -> None:
    run(page, "select 1")
    copy = page.get_by_role("button", name="Copy", exact=True)
    copy.click()
    expect(page.get_by_text("Copied 48 rows")).to_be_visible()
    assert clipboard(page).split("\n")[:2] == [
        "npi\tname\tstate\tdate\tscore",
        "1003000126\tAlder Street Clinic\tAK\t2024-01-01\t0",
    ]
    cell(page, 0, 1).click()
    copy.click()
    expect(page.get_by_text("Copied 1 cell")).to_be_visible()
    assert clipboard(page) == "Alder Street Clinic"
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as by plain HTTP
    cell(page, 1, 1).click()
    copy.click()
    page.get_by_role("searchbox").first.focus()
    page.keyboard.press("Control+V")
    expect(page.get_by_role("searchbox").first).to_have_value("Bay Dental")


def test_the_grid_keeps_its_place(page: Page) -> None:
    run(page, "select million")
    expect(page.get_by_test_id("row-count")).to_have_text("1,000,000 rows", timeout=30_000)
    page.get_by_role("grid").focus()
    page.keyboard.press("Control+End")
    page.keyboard.press("Alt+N")
    page.get_by_role("tab", name="Query 1").click()
    expect(cell(page, 999_999, 0)).to_be_in_viewport()
    page.get_by_role("tab", name="Scan").click()
    page.get_by_role("tab", name="Rows").click()
    expect(cell(page, 999_999, 0)).to_be_in_viewport()
    page.get_by_role("grid").focus()
    page.keyboard.press("ArrowUp")
    expect(cell(page, 999_998, page.locator("[role=columnheader]").count() - 1)).to_have_class(re.compile("is-cursor"))


def test_columns_are_resized(page: Page) -> None:
    run(page, "select 1")
    column = page.get_by_role("columnheader").nth(1)
    before = column.bounding_box()
    handle = column.locator(".grid-handle").bounding_box()
    assert before is not None
    assert handle is not None
    page.mouse.move(handle["x"] + 4, handle["y"] + 10)
    page.mouse.down()
    page.mouse.move(handle["x"] + 94, handle["y"] + 10)
    page.mouse.up()
    after = column.bounding_box()
    assert after is not None
    assert after["width"] == pytest.approx(before["width"] + 90, abs=2)


def test_a_result_without_rows_still_has_columns(page: Page) -> None:
    run(page, "select empty")
    expect(page.get_by_test_id("row-count")).to_have_text("0 rows")
    expect(page.get_by_role("columnheader")).to_have_text(["npiint64"])
    page.get_by_role("tab", name="Chart").click()
    expect(page.get_by_text("There are no rows to draw.")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "suffix"), [("CSV", "csv"), ("Parquet", "parquet"), ("JSON", "json"), ("Arrow", "arrows")]
)
def test_results_are_downloaded(page: Page, served: Served, name: str, suffix: str) -> None:
    run(page, "select 1")
    page.get_by_label("Download").click()
    with page.expect_download() as started:
        page.get_by_role("menuitem", name=name).click()
    content = Path(started.value.path()).read_bytes()
    assert started.value.suggested_filename == f"Query-1.{suffix}"
    asked, _ = served.service.asked[-1]
    assert (asked.sql, asked.format) == ("select 1", "arrow" if name == "Arrow" else suffix)
    if name == "CSV":
        assert content.decode().splitlines()[0] == "npi,name,state,date,score"
    elif name == "Parquet":
        assert pq.read_table(io.BytesIO(content)).num_rows == 48
    elif name == "JSON":
        assert len(json.loads(content)["rows"]) == 48


def test_a_chart_is_guessed_and_changed(page: Page) -> None:
    run(page, "select 1")
    page.get_by_role("tab", name="Chart").click()
    drawn = page.locator(".chart-canvas canvas")
    expect(drawn).to_be_visible()
    expect(page.get_by_role("radio", name="line")).to_have_attribute("aria-checked", "true")
    expect(page.get_by_label("x", exact=True)).to_have_value("3")
    expect(page.get_by_label("y", exact=True)).to_have_value("4")
    expect(page.locator(".u-legend .u-series")).to_have_count(4)  # the time, and three states
    page.get_by_role("radio", name="bar").click()
    page.get_by_label("x", exact=True).select_option("state")
    page.get_by_label("series").select_option("none")
    expect(page.locator(".u-legend .u-series")).to_have_count(2)
    page.get_by_role("radio", name="scatter").click()
    expect(page.get_by_role("img", name="scatter chart of score")).to_be_visible()


def test_the_scan_is_drawn(page: Page) -> None:
    run(page, "select 1")
    page.get_by_role("tab", name="Scan").click()
    scan = page.get_by_label("Scan of uat_silver_tax_id.partitioned_organizations")
    expect(scan).to_contain_text("146 partitions read, 18,095 of 18,241 skipped")
    expect(scan.get_by_role("row").nth(1)).to_contain_text("partition values")
    expect(scan.get_by_role("row").nth(3)).to_contain_text("statistics")
    kept = scan.locator(".proportion-kept").bounding_box()
    skipped = scan.locator(".proportion-skipped").bounding_box()
    assert kept is not None
    assert skipped is not None
    assert kept["width"] < skipped["width"] / 50
    expect(page.get_by_role("img", name="queued 1.0 ms, planning 6.0 ms, first rows 42 ms")).to_be_visible()
    page.get_by_text("Physical plan").click()
    expect(page.get_by_text("TableScan: partitioned_organizations").last).to_be_visible()


def test_the_scan_of_a_wrong_statement_says_why(page: Page) -> None:
    write(page, "select syntax")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("tab", name="Scan").click()
    expect(page.get_by_role("alert")).to_contain_text("found: fron")


def test_a_result_says_what_it_leaves_out(page: Page) -> None:
    run(page, "select 1")
    expect(page.get_by_test_id("row-count")).to_be_visible()
    expect(page.get_by_test_id("left-out")).to_have_count(0)
    run(page, "select 1 as archived")
    left_out = page.get_by_test_id("left-out")
    expect(left_out).to_have_text("1,200 archived files left out")
    expect(left_out).to_have_attribute("title", "the result leaves out 1,200 partitions of t")
