"""The console over the service itself: from what Dagster's event log says to the rows in the browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.contract.records import local_record
from tests.server.doors.console.conftest import editor, run, write

TABLE = "local_silver.counts"
STATES = ("CA", "O'Hare")
DAYS = [date(2024, 1, day) for day in (1, 2, 4, 5)]  # the third is a hole
ROWS = 1000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service over a deployment with SQLite and local files."""
    folder = tmp_path_factory.mktemp("service")
    materialize(folder / "home", folder / "objects")
    command = [sys.executable, "-c", "from dagfusion_cli.main import main; main()", "serve"]
    addresses = ["--http-address=127.0.0.1:0", "--flight-address=127.0.0.1:0", "--workers=1"]
    variables = os.environ | {
        "DAGFUSION_STATE_DIR": str(folder / "state"),
        "DAGFUSION_DAGSTER_URL": "http://localhost:3000",
    }
    served = subprocess.Popen(  # noqa: S603
        [*command, *addresses, f"--dagster-home={folder / 'home'}"],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with served:
        assert served.stdout is not None
        first = served.stdout.readline()
        yield re.sub(r".*(http://\S+)\s*", r"\1", first)
        served.terminate()


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    opened = context.new_page()
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("console", lambda message: said.append(message.text) if "Content Security" in message.text else None)
    opened.goto(url)
    expect(opened.locator(f"[data-table='{TABLE}']")).to_be_visible()
    yield opened
    assert said == []


def test_a_query_of_one_partition_reads_one_file(page: Page) -> None:
    run(page, f"select n, state, date from {TABLE} where state = 'CA' and date = date '2024-01-02' order by n")
    expect(page.get_by_test_id("row-count")).to_have_text("1,000 rows")
    expect(page.locator("[data-row='3'][data-column]")).to_have_text(["3", "CA", "2024-01-02"])
    expect(page.get_by_text("1 of 8 files")).to_be_visible()
    page.get_by_role("tab", name="Scan").click()
    scan = page.get_by_label(f"Scan of {TABLE}")
    expect(scan).to_contain_text("1 partition read, 7 of 8 skipped")
    expect(scan.get_by_role("row").nth(1)).to_contain_text("partition values")


def test_a_syntax_error_has_its_place(page: Page) -> None:
    write(page, f"select n\nfrom {TABLE}\nwhere n = 1 andd state = 'CA'")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("line 3, column 13")
    expect(page.locator(".cm-lintRange-error")).to_have_text("andd")


@pytest.mark.parametrize(
    ("sql", "marked"),
    [
        (f"select n,\n  c.naem\nfrom {TABLE} c", "c.naem"),
        (f"select n from {TABLE} where frob(n) = 1", "frob"),
        ("select 'local.nowhere'\nfrom local.nowhere", "local.nowhere"),
    ],
)
def test_a_name_that_means_nothing_is_marked(page: Page, sql: str, marked: str) -> None:
    write(page, sql)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text(f"line {sql[: sql.rindex(marked)].count(chr(10)) + 1}")
    expect(page.locator(".cm-lintRange-error")).to_have_text(marked)


def test_a_query_that_would_never_end_is_cancelled(page: Page) -> None:
    write(page, f"select count(*) from {TABLE} a, {TABLE} b, {TABLE} c where a.n + b.n + c.n < 0")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Alt+Q")
    running = page.get_by_role("article").first
    expect(running).to_contain_text("running")
    running.get_by_role("button", name="Cancel").click()
    expect(running).to_contain_text("cancelled")
    page.get_by_role("tab", name="Query 1").click()
    expect(page.locator("[data-phase]")).to_have_attribute("data-phase", "cancelled")


def test_the_map_leads_to_a_partition_and_around_a_hole(page: Page) -> None:
    page.locator(f"[data-table='{TABLE}'] .tree-name").click()
    partitions = page.get_by_role("application")
    expect(page.locator(".legend")).to_contain_text("2 missing")
    partitions.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_test_id("row-count")).to_have_text("1,000 rows")
    expect(editor(page)).to_contain_text("state = 'O''Hare'")
    page.get_by_role("tab", name="counts", exact=True).click()
    partitions.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("region", name="Missing partition")).to_contain_text("Never materialized")
    page.get_by_role("button", name="Query the neighbours").click()
    expect(page.get_by_test_id("row-count")).to_have_text("2 rows")
    expect(page.locator("[data-row][data-column='0']")).to_have_text(["2024-01-02", "2024-01-04"])


def materialize(home: Path, objects: Path) -> None:
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for state in STATES:
            for day in DAYS:
                file = objects / f"{STATES.index(state)}" / f"{day}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(pa.table({"n": pa.array(range(ROWS), pa.int64())}), file)
                event = dg.AssetMaterialization(
                    ["Silver", "counts"],
                    partition=str(dg.MultiPartitionKey({"date": str(day), "state": state})),
                    metadata={"dagfusion/file": dg.JsonMetadataValue(record(file, state, day))},
                )
                instance.report_runless_asset_event(event)


def record(file: Path, state: str, day: date) -> dict[str, object]:
    modified = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=file.stat().st_mtime_ns // 1000)
    return local_record(
        file,
        {"state": state, "date": str(day)},
        modified=modified.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        columns={"n": {"min": 0, "max": ROWS - 1, "nulls": 0}},
    )
