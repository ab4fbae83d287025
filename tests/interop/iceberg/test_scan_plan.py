"""Plans for Iceberg's clients: the files of a scan, page by page."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pyiceberg.catalog.rest.scan_planning import PlanTableScanRequest, ScanTasks
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.expressions.parser import parse

from dagfusion_client.errors import BadRequestError, UnsupportedTypeError
from dagfusion_interop.iceberg import scan_plan
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_interop.iceberg.scan_plan import PlannedScan, read_token, scan_tasks
from tests.interop.iceberg.planned_lake import DAYS, as_json, lake_of
from tests.interop.iceberg.reading import Part, folded, publish


def tasks_of(version: Published, filter_: Any, *, has_numbers: bool = False) -> ScanTasks:
    """All pages of a plan, as PyIceberg reads them."""
    scan, tasks = PlannedScan(version.snapshot_id, filter_), []
    while True:
        page = ScanTasks.model_validate_json(
            orjson.dumps(scan_tasks(scan, version.table_snapshot, has_numbers=has_numbers))
        )
        tasks += page.file_scan_tasks
        if not page.plan_tasks:
            return page.model_copy(update={"file_scan_tasks": tasks})
        (token,) = page.plan_tasks
        scan = read_token(token)


def raw_tasks(scan: PlannedScan, version: Published, *, has_numbers: bool) -> list[dict[str, Any]]:
    """The first page of a plan."""
    tasks = orjson.loads(orjson.dumps(scan_tasks(scan, version.table_snapshot, has_numbers=has_numbers)))[
        "file-scan-tasks"
    ]
    return list(tasks)


def numbers(tasks: ScanTasks) -> list[int]:
    return [int(Path(task.data_file.file_path).stem) for task in tasks.file_scan_tasks]


@pytest.mark.parametrize(
    ("text", "files", "residuals"),
    [
        ("state = 'CA'", [1, 2, 3], "true"),
        ("state = 'NY' AND day = '2024-01-02'", [5], "true"),
        ("day = '2024-01-01' OR n = 10", [1, 4], "true"),
        ("state = 'NY' AND n = 5", [4, 5, 6], "filter"),
        ("n = 10", [], "true"),
        ("NOT day IN ('2024-01-01', '2024-01-02')", [3, 6], "true"),
        ("NOT state LIKE 'C%'", [4, 5, 6], "true"),
        ("state IS NULL", [], "true"),
        ("n != 3", [1, 2, 3, 4, 5, 6], "filter"),
    ],
)
def test_plans(publisher: Publisher, text: str, files: list[int], residuals: str) -> None:
    filter_ = PlanTableScanRequest(filter=parse(text)).model_dump(by_alias=True, mode="json")["filter"]
    tasks = tasks_of(lake_of(publisher), filter_)
    assert numbers(tasks) == files
    # PyIceberg counts the rows of a file without reading it where nothing is left to check.
    assert {task.residual_filter == AlwaysTrue() for task in tasks.file_scan_tasks} <= {residuals == "true"}


def test_pages(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_plan, "PAGE_FILES", 2)
    version = lake_of(publisher)
    assert numbers(tasks_of(version, None)) == [1, 2, 3, 4, 5, 6]
    assert numbers(tasks_of(version, {"type": "eq", "term": "state", "value": "NY"})) == [4, 5, 6]


def test_partition_values_are_text_or_numbers(publisher: Publisher) -> None:
    version = lake_of(publisher, ["CA"])
    as_text = raw_tasks(PlannedScan(version.snapshot_id, None), version, has_numbers=False)
    assert [task["data-file"]["partition"] for task in as_text] == [["CA", as_json(day)] for day in DAYS]
    first = (DAYS[0] - dt.date(1970, 1, 1)).days
    tasks = tasks_of(version, None, has_numbers=True).file_scan_tasks
    assert [task.data_file.partition for task in tasks] == [["CA", first + day] for day in range(3)]


@pytest.mark.parametrize(
    ("kind", "value", "text", "number"),
    [
        ("timestamp[s]", "2024-01-05T06:00:00", "2024-01-05T06:00:00.000000", 1_704_434_400_000_000),
        (
            "timestamp[us, tz=UTC]",
            "2024-01-05T06:00:00.000001Z",
            "2024-01-05T06:00:00.000001+00:00",
            1_704_434_400_000_001,
        ),
        ("bool", True, True, True),
        ("uint64", 2**64 - 1, str(2**64 - 1), None),
        ("decimal128(6, 2)", "1.50", "1.50", None),
        ("string", None, None, None),
    ],
)
def test_forms_of_partition_values(publisher: Publisher, kind: str, value: Any, text: Any, number: Any) -> None:
    version = publish(publisher, folded([Part((value,), {"n": "int32"}, {})], {"p": kind}))
    scan = PlannedScan(version.snapshot_id, None)
    (task,) = raw_tasks(scan, version, has_numbers=False)
    assert task["data-file"]["partition"] == [text]
    if number is None:
        with pytest.raises(UnsupportedTypeError, match=r"'p': leave planning to the client"):
            scan_tasks(scan, version.table_snapshot, has_numbers=True)
    else:
        (task,) = raw_tasks(scan, version, has_numbers=True)
        assert task["data-file"]["partition"] == [number]


def test_a_long_filter_makes_small_pages(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_plan, "_PAGE_BYTES", 300)
    version = lake_of(publisher)
    filter_ = {"type": "in", "term": "n", "values": [*range(30)]}
    page = scan_tasks(PlannedScan(version.snapshot_id, filter_), version.table_snapshot, has_numbers=False)
    assert len(orjson.loads(orjson.dumps(page))["file-scan-tasks"]) == 2
    assert numbers(tasks_of(version, filter_)) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(BadRequestError, match="may have at most 131072 bytes, got"):
        scan_tasks(
            PlannedScan(version.snapshot_id, {"values": [*range(30_000)]}), version.table_snapshot, has_numbers=False
        )


def test_pages_are_the_same_in_all_services(publisher: Publisher) -> None:
    version = lake_of(publisher)
    order = np.array([3, 1, 5, 0, 2, 4])
    other = replace(version, table=replace(version.table, files=version.table.files.take(order)))
    assert numbers(tasks_of(other, None)) == numbers(tasks_of(version, None))


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "[]",
        "[1, null, true, 1]",
        "[1, null, true, true, -1]",
        '["1", null, true, true, 1]',
        "{}",
        "[1,2,3,4,5]",
    ],
)
def test_a_token_of_nobody_is_refused(token: Any) -> None:
    with pytest.raises(BadRequestError, match="is not one that this catalog gave"):
        read_token(token)
