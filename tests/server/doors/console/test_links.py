"""The links on Dagster's events, to a table and to one of its partitions, and the address of a query as of the past."""

from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from dagfusion_client.as_of import read_as_of
from tests.server.doors.console.conftest import Served, run

ORGANIZATIONS = "uat_silver_tax_id.partitioned_organizations"


def link(served: Served, **fields: str) -> str:
    return f"{served.url}/#{urlencode(fields, quote_via=quote)}"


@pytest.mark.parametrize("before", ["the console", "about:blank"])
def test_a_link_opens_its_partition(page: Page, served: Served, before: str) -> None:
    if before == "about:blank":
        page.goto(before)
    page.goto(link(served, table=ORGANIZATIONS, partition="2024-06-03|CO", more="1"))
    expect(page.get_by_test_id("row-count")).to_be_visible()
    expect(page.get_by_role("tab", name="2024-06-03|CO")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tab", name="partitioned_organizations")).to_be_visible()
    assert served.service.statements == [
        f"select *\nfrom {ORGANIZATIONS}\nwhere state = 'CO'\n  and date = date '2024-06-03'"
    ]
    assert page.url == f"{served.url}/"


def test_a_link_without_a_partition_opens_the_table(page: Page, served: Served) -> None:
    page.goto(link(served, table=ORGANIZATIONS))
    expect(page.get_by_role("heading", name="partitioned_organizations")).to_be_visible()
    expect(page.get_by_role("application")).to_be_visible()
    assert served.service.statements == []


def test_a_link_to_a_table_that_cannot_be_read_says_why(page: Page, served: Served) -> None:
    page.goto(link(served, table="uat_bronze_shop.orders", partition="2024-06-03"))
    expect(page.get_by_role("alert")).to_contain_text("column amount is int64")
    assert served.service.statements == []


@pytest.mark.parametrize("key", ["2024-01-16|CA", "' or 1=1 --", "<img src=x onerror=alert(1)>"])
def test_a_link_to_a_missing_partition_says_so(page: Page, served: Served, key: str) -> None:
    page.goto(link(served, table=ORGANIZATIONS, partition=key))
    said = page.get_by_role("alert")
    expect(said).to_contain_text(f"The table has no partition “{key}”")
    expect(page.get_by_role("application")).to_be_visible()
    said.get_by_role("button", name="Dismiss").click()
    expect(said).to_have_count(0)
    assert served.service.statements == []


@pytest.mark.parametrize("table", ["uat_gone.orders", "__proto__.x", "../../queries.x", "<img src=x onerror=alert(1)>"])
def test_a_link_to_a_missing_table_says_so(page: Page, table: str, served: Served) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(link(served, table=table, partition="2024-06-03"))
    said = page.get_by_role("alert")
    expect(said).to_contain_text(f"The link names the table “{table}”, which is not in your catalog")
    said.get_by_role("button", name="Dismiss").click()
    expect(said).to_have_count(0)
    assert {url for url in asked if "/v1/" in url} <= {f"{served.url}/v1/tables"}


def test_a_link_is_followed_after_the_token(page: Page, served: Served) -> None:
    token = served.require_token()
    page.goto("about:blank")
    page.goto(link(served, table=ORGANIZATIONS, partition="2024-06-03|CO"))
    page.get_by_role("dialog", name="Sign in").get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="2024-06-03|CO")).to_have_attribute("aria-selected", "true")


def test_a_query_as_of_the_past_keeps_its_time_in_the_address(page: Page, served: Served) -> None:
    field = page.get_by_label("As of a time or an event id")
    field.fill("2024-01-15T12:00:00Z")
    run(page, "select 1")
    with page.expect_request("**/v1/explain") as explained:
        page.get_by_role("tab", name="Scan").click()
    assert explained.value.post_data_json == {"sql": "select 1", "as_of": "2024-01-15T12:00:00Z"}
    page.locator("summary[aria-label=Download]").click()
    with page.expect_download():
        page.get_by_role("menuitem", name="CSV").click()
    noon = read_as_of("2024-01-15T12:00:00Z")
    assert [query.as_of for query, _ in served.service.asked] == [noon, noon]
    shown = page.locator(".status").get_by_text("as of 2024-01-15T12:00:00Z")
    expect(shown).to_have_attribute("title", "The tables of uat after event 7")
    assert page.url == f"{served.url}/#as_of=2024-01-15T12%3A00%3A00Z"

    page.reload()
    expect(field).to_have_value("2024-01-15T12:00:00Z")
    field.fill("")
    run(page, "select 1")
    assert served.service.asked[-1][0].as_of is None
    expect(page.locator(".status")).not_to_contain_text("as of")
    assert page.url == f"{served.url}/"


@pytest.mark.parametrize(("value", "shown"), [("4711", "4711"), ("1 or 1=1", ""), ("<b>", "")])
def test_a_link_with_a_time_or_an_event_fills_the_field(page: Page, served: Served, value: str, shown: str) -> None:
    page.goto("about:blank")
    page.goto(link(served, as_of=value))
    expect(page.get_by_label("As of a time or an event id")).to_have_value(shown)
    assert page.url == f"{served.url}/" + (f"#as_of={shown}" if shown else "")
    assert served.service.statements == []
