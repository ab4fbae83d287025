"""The tree, a table's page, and its partition map."""

import re
from datetime import UTC, date, datetime

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.server.doors.console.conftest import Served, editor, until
from tests.server.doors.console.console_tables import DAYS, START, STATES

ORGANIZATIONS = "uat_silver_tax_id.partitioned_organizations"


def open_table(page: Page, name: str) -> None:
    page.locator(f"[data-table='{name}'] .tree-name").click()
    expect(page.get_by_role("application")).to_be_visible()


def point(page: Page, state: str, day: date, columns: int = DAYS, rows: int = len(STATES)) -> tuple[float, float]:
    """Where a partition is on the map."""
    box = page.locator(".map-canvas canvas").bounding_box()
    assert box is not None
    left, bottom = 28, 26  # the room of the labels
    x = left + (box["width"] - left) * ((day - START).days + 0.5) / columns
    y = (box["height"] - bottom) * (STATES.index(state) + 0.5) / rows
    return box["x"] + x, box["y"] + y


def test_the_tree_shows_what_there_is_and_what_is_wrong(page: Page) -> None:
    tree = page.get_by_role("tree")
    expect(tree.locator(".is-environment").nth(0)).to_contain_text("uat4 tables")
    expect(tree.locator(".is-environment").nth(1)).to_contain_text("proddown")
    expect(tree).to_contain_text("the Dagster database of prod does not answer")
    expect(tree).to_contain_text("column amount is int64 in 12 partitions and string in 2")
    expect(tree.locator(f"[data-table='{ORGANIZATIONS}']")).to_contain_text(
        re.compile(r"8\.9M rows · 672 MB · 4\d min ago")
    )
    page.locator(f"[data-table='{ORGANIZATIONS}'] .tree-toggle").click()
    columns = tree.locator(".is-column")
    expect(columns).to_have_text(["npiint64", "namestring", "openedtimestamp[us]", "statepartitionstring",
                                  "datepartitiondate32[day]"])  # fmt: skip


def test_the_tree_is_searched(page: Page) -> None:
    page.keyboard.press("Control+K")
    page.keyboard.type("gold date")
    expect(page.locator("[data-table]")).to_have_count(1)
    page.keyboard.press("Control+A")
    page.keyboard.type("nothing like it")
    expect(page.get_by_text("No table matches")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-table]")).to_have_count(4)


def test_of_very_many_tables_the_schemas_are_listed(page: Page, served: Served) -> None:
    pattern = page.request.get(f"{served.url}/v1/tables").json()
    table = {**pattern["tables"][0], "problem": None}
    many = [table | {"schema": f"uat_area_{place % 8}", "name": f"made_{place}"} for place in range(2000)]
    page.route("**/v1/tables", lambda route: route.fulfill(json={**pattern, "tables": many}))
    page.reload()
    expect(page.get_by_role("treeitem", name="uat 2,000 tables")).to_be_visible()
    expect(page.locator("[data-table]")).to_have_count(0)
    page.get_by_role("treeitem", name="uat_area_3 250 tables").click()
    expect(page.locator("[data-table]")).to_have_count(250)
    page.get_by_label("Search tables").fill("made_1234")
    expect(page.locator("[data-table]")).to_have_count(1)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (1, "1 asset is not Parquet, and no table: dagfusion tables --all lists it with the reason."),
        (3, "3 assets are not Parquet, and no tables: dagfusion tables --all lists them, each with the reason."),
    ],
)
def test_assets_that_are_not_parquet_are_counted_instead_of_listed(
    page: Page, served: Served, others: int, said: str
) -> None:
    pattern = page.request.get(f"{served.url}/v1/tables").json()
    problem = {"code": "not_parquet", "detail": "not Parquet: it does not begin as a Parquet file does"}
    pickles = [{**pattern["tables"][0], "name": f"model_{place}", "problem": problem} for place in range(others)]
    page.route("**/v1/tables", lambda route: route.fulfill(json={**pattern, "tables": pattern["tables"] + pickles}))
    page.reload()
    tree = page.get_by_role("tree")
    expect(tree).to_contain_text(said)
    expect(tree.locator(".is-environment").first).to_contain_text("uat4 tables")
    expect(tree.locator("[data-table]")).to_have_count(4)


def test_a_table_is_queried_from_the_tree(page: Page, served: Served) -> None:
    page.locator(f"[data-table='{ORGANIZATIONS}']").hover()
    page.get_by_label(f"Query {ORGANIZATIONS}").click()
    expect(page.get_by_test_id("row-count")).to_have_text("48 rows")
    assert served.service.statements[-1] == f"select *\nfrom {ORGANIZATIONS}\nlimit 100"


def test_a_table_has_a_page(page: Page) -> None:
    open_table(page, ORGANIZATIONS)
    expect(page.get_by_role("heading", name="partitioned_organizations")).to_be_visible()
    expect(page.get_by_role("link", name="Dagster")).to_have_attribute(
        "href", "http://localhost:3000/assets/Silver/TaxID/partitioned_organizations"
    )
    expect(page.get_by_role("link", name="5f2c81aa").first).to_have_attribute(
        "href", re.compile(r"^http://localhost:3000/runs/5f2c81aa-8a41")
    )
    listed = page.get_by_label("Filter partitions")
    listed.fill("2024-06-01|CA")
    page.get_by_role("button", name="2024-06-01|CA").click()
    expect(editor(page)).to_contain_text("date = date '2024-06-01'")


def test_a_table_that_cannot_be_read_says_why(page: Page) -> None:
    page.locator("[data-table='uat_bronze_shop.orders'] .tree-name").click()
    expect(page.get_by_role("alert")).to_contain_text("column amount is int64")
    expect(page.get_by_role("button", name="Query", exact=True)).to_be_disabled()


def test_a_click_on_a_cell_queries_its_partition(page: Page, served: Served) -> None:
    open_table(page, ORGANIZATIONS)
    expect(page.locator(".legend")).to_contain_text(f"{8 + len(STATES)} missing")
    x, y = point(page, "CO", date(2024, 6, 3))
    page.mouse.move(x, y)
    expect(page.locator(".map-tip")).to_contain_text("state CO, date 2024-06-03")
    expect(page.locator(".map-tip")).to_contain_text("rows")
    page.mouse.click(x, y)
    expect(page.get_by_test_id("row-count")).to_be_visible()
    expect(page.get_by_role("tab", name="CO · 2024-06-03")).to_have_attribute("aria-selected", "true")
    assert served.service.statements[-1] == (
        f"select *\nfrom {ORGANIZATIONS}\nwhere state = 'CO'\n  and date = date '2024-06-03'"
    )


@pytest.mark.parametrize(("state", "day"), [("CA", date(2024, 1, 16)), ("NY", date(2024, 3, 15))])
def test_a_click_on_a_hole_explains_it(page: Page, served: Served, state: str, day: date) -> None:
    """One partition alone, and a day on which nothing was materialized: time is continuous."""
    open_table(page, ORGANIZATIONS)
    page.mouse.click(*point(page, state, day))
    hole = page.get_by_role("region", name="Missing partition")
    expect(hole).to_contain_text(f"state = {state}, date = {day}")
    expect(hole).to_contain_text("Never materialized: Dagster knows of no run")
    expect(hole.get_by_role("button", name="Query the neighbours")).to_be_in_viewport()
    expect(hole.get_by_role("link", name="Materialize it in Dagster")).to_have_attribute(
        "href",
        "http://localhost:3000/assets/Silver/TaxID/partitioned_organizations"
        f"?view=partitions&partition={day}%7C{state}",
    )
    assert served.service.statements == []
    hole.get_by_role("button", name="Query the neighbours").click()
    expect(page.get_by_test_id("row-count")).to_be_visible()
    before, after = (date.fromordinal(day.toordinal() + step) for step in (-1, 1))
    assert f"date between date '{before}' and date '{after}'" in served.service.statements[-1]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("FAILURE", "The run failed: run 0f1e2d3c was to materialize it"),
        ("STARTED", "A run is under way: run 0f1e2d3c is to materialize it"),
    ],
)
def test_a_hole_names_the_run_that_was_to_fill_it(page: Page, served: Served, status: str, said: str) -> None:
    served.service.note_run("2024-01-16|CA", status, datetime(2026, 1, 1, tzinfo=UTC))
    open_table(page, ORGANIZATIONS)
    page.mouse.click(*point(page, "CA", date(2024, 1, 16)))
    hole = page.get_by_role("region", name="Missing partition")
    expect(hole).to_contain_text(said)
    run = "http://localhost:3000/runs/0f1e2d3c-aaaa"
    expect(hole.get_by_role("link", name="0f1e2d3c")).to_have_attribute("href", run)
    why = hole.get_by_role("link", name="See why it failed")
    expect(why).to_have_count(1 if status == "FAILURE" else 0)


def test_a_page_says_that_the_last_run_failed(page: Page, served: Served) -> None:
    served.service.note_run(None, "FAILURE", datetime(2999, 1, 1, tzinfo=UTC))
    open_table(page, ORGANIZATIONS)
    warning = page.get_by_text("The last run 0f1e2d3c, just now, failed")
    expect(warning).to_be_visible()
    expect(warning.get_by_role("link")).to_have_attribute("href", "http://localhost:3000/runs/0f1e2d3c-aaaa")
    served.service.note_run(None, "FAILURE", datetime(1999, 1, 1, tzinfo=UTC))
    page.reload()
    expect(page.get_by_role("application")).to_be_visible()
    expect(warning).to_have_count(0)


def test_a_page_stays_as_it_is_while_the_table_grows(page: Page, served: Served) -> None:
    open_table(page, ORGANIZATIONS)
    page.mouse.click(*point(page, "CA", date(2024, 1, 16)))
    hole = page.get_by_role("region", name="Missing partition")
    expect(hole).to_contain_text("Never materialized")
    page.get_by_role("button", name="Zoom in").click()
    page.evaluate("window.canvas = document.querySelector('.map-canvas canvas')")
    served.service.generation += 1
    with page.expect_response("**/partitions?format=arrow"):
        page.get_by_role("button", name="Refresh the catalog").click()
    page.wait_for_load_state("networkidle")  # the console cancels the stream after Arrow's end, so it never finishes
    expect(page.locator(".legend")).to_contain_text("58 missing")
    expect(hole).to_contain_text("state = CA, date = 2024-01-16")
    expect(page.get_by_role("button", name="Show all")).to_be_enabled()
    assert page.evaluate("canvas.isConnected")


def test_an_unchanged_catalog_is_not_sent_again(page: Page) -> None:
    expect(page.locator(f"[data-table='{ORGANIZATIONS}']")).to_be_visible()
    with page.expect_response("**/v1/tables") as answered:
        page.get_by_role("button", name="Refresh the catalog").click()
    assert answered.value.status == 304
    expect(page.locator(f"[data-table='{ORGANIZATIONS}']")).to_be_visible()


def test_the_map_is_walked_with_the_keyboard(page: Page, served: Served) -> None:
    open_table(page, ORGANIZATIONS)
    page.get_by_role("application").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(".map-room [role=status]")).to_contain_text("state AL, date 2024-01-03")
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("row-count")).to_be_visible()
    assert "state = 'AL'\n  and date = date '2024-01-03'" in served.service.statements[-1]


def test_one_dimension_is_a_strip(page: Page, served: Served) -> None:
    open_table(page, "uat_gold_analytics.daily_org_aggregates")
    expect(page.locator(".legend")).to_contain_text("5 missing")
    expect(page.get_by_text("its event names an object of 0 bytes")).to_be_visible()
    box = page.locator(".map-canvas canvas").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 10.5 / DAYS, box["y"] + 100)
    expect(page.get_by_test_id("row-count")).to_be_visible()
    assert served.service.statements[-1].endswith("where date = date '2024-01-11'")


def test_colours_follow_what_they_stand_for(page: Page) -> None:
    open_table(page, ORGANIZATIONS)
    images = {pixels(page)}
    for metric in ("bytes", "age"):
        page.get_by_role("radio", name=metric).click()
        until(page, lambda: pixels(page) not in images)
        images.add(pixels(page))


def test_a_million_partitions_are_drawn(page: Page, served: Served) -> None:
    served.service.has_big_map = True
    page.locator(f"[data-table='{ORGANIZATIONS}'] .tree-name").click()
    expect(page.get_by_role("application")).to_be_visible(timeout=30_000)
    expect(page.locator(".legend")).to_contain_text("none missing")
    is_drawn: bool = page.get_by_role("application").evaluate(
        """async map => {
            const before = map.querySelector("canvas").toDataURL();
            map.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            return map.querySelector("canvas").toDataURL() !== before;
        }"""
    )
    assert is_drawn  # in the frame that follows the key


def pixels(page: Page) -> str:
    canvas: Locator = page.locator(".map-canvas canvas")
    text: str = canvas.evaluate("canvas => canvas.toDataURL()")
    return text
