"""The files that count as read are those that were opened."""

from typing import Any

import pyarrow as pa
import pytest

from dagfusion_query.engine.engine import Engine
from dagfusion_query.settings import Settings

TABLE = "local_default.t"
FILES = 40


@pytest.fixture
def t(lake: Any) -> Any:
    """Files that are read one after the other."""
    lake.engine.close()
    lake.engine = Engine(
        Settings.read(
            {"DAGFUSION_HOME": str(lake.root), "DAGFUSION_PARALLELISM": "1", "DAGFUSION_SCAN_CONCURRENCY": "1"}
        )
    )
    for p in range(FILES):
        lake.write(("t",), pa.table({"id": range(1000 * p, 1000 * p + 1000)}), {"p": pa.scalar(p)})
    return lake


def _read(lake: Any, sql: str) -> tuple[int, int]:
    """Return how many files a statement opens, and how many its filters keep."""
    prepared = lake.prepare(sql)
    run = lake.engine.run(prepared)
    list(iter(run.next, None))
    return run.files_read, sum(scan.count for scan in prepared.scans)


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("sql", "opened", "kept"),
    [
        ("SELECT id FROM {t}", FILES, FILES),
        ("SELECT id FROM {t} WHERE p < 3", 3, 3),
        ("SELECT count(*) FROM {t}", 0, 0),
        ("SELECT count(*) FROM {t} WHERE id % 7 = 0", FILES, FILES),
        ("SELECT a.id FROM {t} a JOIN {t} b ON a.id = b.id WHERE a.p = 1 AND b.p IN (1, 2)", 3, 3),
        ("SELECT id FROM {t} WHERE false", 0, 0),
        (
            """WITH RECURSIVE r AS (SELECT 0 AS k UNION ALL SELECT k + 1 FROM r WHERE k < 1)
               SELECT count(id) FROM r JOIN {t} ON k = p WHERE p < 2""",
            2,
            2,
        ),
        ("SELECT 1", 0, 0),
    ],
)
def test_every_file_that_is_needed_is_opened_once(t: Any, sql: str, opened: int, kept: int) -> None:
    assert _read(t, sql.replace("{t}", TABLE)) == (opened, kept)


@pytest.mark.parametrize("sql", ["SELECT id FROM {t} LIMIT 1", "SELECT id FROM {t} WHERE id >= 0 LIMIT 2500"])
def test_a_limit_leaves_files_closed(t: Any, sql: str) -> None:
    opened, _ = _read(t, sql.replace("{t}", TABLE))

    assert 0 < opened < FILES // 2
