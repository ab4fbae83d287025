"""The choice of the engine beside Run, which a service with a Spark Connect server has."""

import pytest
from playwright.sync_api import Locator, Page, expect

from dagfusion_client.engine_choice import EngineChoice
from dagfusion_query.service_settings import ServiceSettings
from tests.server.doors.console.conftest import Served, run

pytestmark = pytest.mark.usefixtures("heavy")

WITH_SPARK = ServiceSettings(spark_remote="sc://127.0.0.1:1", engine="auto")
with_spark = pytest.mark.parametrize("settings", [WITH_SPARK], ids=["spark"])


def choice(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Engine")


def engines(served: Served) -> list[EngineChoice | None]:
    """Return the engine of each statement that was run."""
    return [query.engine for query, _ in served.service.asked]


@with_spark
def test_an_engine_is_chosen_by_keyboard_sent_and_kept(page: Page, served: Served) -> None:
    expect(choice(page).locator("option")).to_have_text(["default (auto)", "local", "Spark", "auto"])
    run(page, "select 1")
    choice(page).focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(choice(page)).to_have_value("spark")
    status = page.locator(".status")
    expect(status).to_contain_text("local engine")
    run(page, "select 2")
    expect(status).to_contain_text("Spark engine")
    page.get_by_role("tab", name="Scan").click()
    expect(page.get_by_title("the Spark Connect server ran it")).to_contain_text("spark")
    page.get_by_role("button", name="New tab").click()
    page.reload()
    expect(choice(page)).to_have_value("spark")
    run(page, "select 3")
    page.get_by_label("Download").click()
    with page.expect_download():
        page.get_by_role("menuitem", name="CSV").click()
    choice(page).select_option("default (auto)")
    run(page, "select 4")
    spark = EngineChoice.spark
    assert engines(served) == [None, spark, spark, spark, None]


@with_spark
def test_the_bar_of_a_narrow_window_has_room_for_the_choice(page: Page) -> None:
    for width in (360, 730, 900):
        page.set_viewport_size({"width": width, "height": 800})
        expect(choice(page)).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        overflow = page.locator(".editor-bar").evaluate("bar => bar.scrollWidth - bar.clientWidth")
        assert overflow <= 0, f"{overflow} pixels too wide at {width}"


def test_a_service_without_a_server_has_no_choice(page: Page, served: Served) -> None:
    run(page, "select 1")
    expect(choice(page)).to_have_count(0)
    expect(page.locator(".status")).not_to_contain_text("engine")
    assert engines(served) == [None]


@with_spark
def test_a_choice_of_another_service_is_not_sent_to_one_without_a_server(page: Page, served: Served) -> None:
    choice(page).select_option("spark")
    page.route("**/v1/session", lambda route: route.fulfill(json={**route.fetch().json(), "spark": False}))
    page.reload()
    expect(page.get_by_text("anonymous")).to_be_visible()
    expect(choice(page)).to_have_count(0)
    run(page, "select 1")
    assert engines(served) == [None]


@with_spark
def test_a_choice_is_not_sent_before_the_session_has_loaded(page: Page, served: Served) -> None:
    choice(page).select_option("spark")
    page.route("**/v1/session", lambda route: route.abort())
    page.reload()
    run(page, "select 1")
    assert engines(served) == [None]
