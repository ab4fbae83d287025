"""What comes late takes nothing from the user: no focus, no selection, no scroll position."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from tests.query.console.conftest import Served, editor, until, write

RAW = "[data-table='uat_silver_tax_id.raw_organizations']"
HOLD_FRAMES = """() => {
    const [real, held] = [window.requestAnimationFrame, []];
    window.requestAnimationFrame = callback => -held.push(callback);
    window.releaseFrames = async () => {
        window.requestAnimationFrame = real;
        for (const each of held) each(performance.now());
        for (let frame = 0; frame < 3; frame += 1) await new Promise(done => requestAnimationFrame(done));
    };
}"""


@contextmanager
def frames_held(page: Page) -> Iterator[None]:
    """Draw no frame until the end of the block, as a busy machine does."""
    page.evaluate(HOLD_FRAMES)
    yield
    page.evaluate("releaseFrames()")


def test_the_search_takes_the_focus_once(page: Page) -> None:
    """Not again in a later frame, when the keys have moved on into the tree."""
    expect(page.locator(RAW)).to_be_visible()
    with frames_held(page):
        page.keyboard.press("Control+K")
        page.keyboard.type("raw")
        for _ in range(3):
            page.keyboard.press("ArrowDown")
    expect(page.locator(RAW)).to_be_focused()
