"""Aggregates that the catalog answers read nothing, and are right."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

TABLE = "local_default.t"


@pytest.fixture
def t(lake: Any) -> Any:
    """2 states x 3 days; partition i has ids 10 i .. 10 i + 9 and one NULL name; no file is left to be read."""
    written: list[Path] = []
    for i, (state, day) in enumerate((s, d) for s in ("CA", "NY") for d in (1, 2, 3)):
        rows = pa.table(
            {
                "id": range(10 * i, 10 * i + 10),
                "name": [f"n{i}"] * 9 + [None],
                "x": [0.5] * 9 + [float("nan")],
                "ok": [True, False] * 5,
            }
        )
        date = pa.scalar(dt.date(2024, 1, day), pa.date32())
        written.append(lake.write(("t",), rows, {"state": pa.scalar(state), "date": date}))
    for path in written:
        path.unlink()
    return lake


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) AS n FROM {t}", [{"n": 60}]),
        ("SELECT count(1) AS n FROM {t} WHERE state = 'CA'", [{"n": 30}]),
        ("SELECT count(*) + 1 AS n FROM {t} AS a WHERE a.date > '2024-01-01'", [{"n": 41}]),
        (
            "SELECT state, count(*) AS n, count(name) AS named FROM {t} GROUP BY state ORDER BY state",
            [{"state": "CA", "n": 30, "named": 27}, {"state": "NY", "n": 30, "named": 27}],
        ),
        (
            "SELECT o.state, min(o.id) AS lo, max(o.name) AS hi FROM {t} o GROUP BY o.state ORDER BY o.state DESC",
            [{"state": "NY", "lo": 30, "hi": "n5"}, {"state": "CA", "lo": 0, "hi": "n2"}],
        ),
        ("SELECT min(date) AS d, max(state) AS s FROM {t}", [{"d": dt.date(2024, 1, 1), "s": "NY"}]),
        ("SELECT DISTINCT date FROM {t} WHERE date < '2024-01-02'", [{"date": dt.date(2024, 1, 1)}]),
        ("SELECT extract(day FROM date) AS d, count(*) AS n FROM {t} GROUP BY 1 HAVING count(*) > 30", []),
        (
            """SELECT a.n, b.n AS m
               FROM (SELECT count(*) AS n FROM {t}) a, (SELECT count(*) AS n FROM {t} WHERE state = 'CA') b""",
            [{"n": 60, "m": 30}],
        ),
        ("SELECT count(*) AS n FROM {t} WHERE state = 'XX'", [{"n": 0}]),
    ],
)
def test_no_object_is_read(t: Any, sql: str, expected: list[dict[str, Any]]) -> None:
    query = sql.format(t=TABLE)

    assert t.rows(query) == expected
    assert all(scan.count == 0 for scan in t.prepare(query).scans)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(id) FROM {t}",
        "SELECT count(*) FROM {t} WHERE id > 5",
        "SELECT count(DISTINCT id) FROM {t}",
        "SELECT count(DISTINCT state), count(DISTINCT date) FROM {t}",
        "SELECT count(DISTINCT id), count(DISTINCT name) FROM {t}",
        "SELECT count(*) FILTER (WHERE ok) FROM {t}",
        "SELECT count(id) FILTER (WHERE ok) FROM {t}",
        "SELECT max(state) FILTER (WHERE ok) FROM {t}",
        "SELECT max(id + x) FROM {t}",
        "SELECT max(id - x) FROM {t}",
        "SELECT max(name || state) FROM {t}",
        "SELECT max(-id) FROM {t}",
        "SELECT count(id, name) FROM {t}",
        "SELECT count(*) FILTER (WHERE id > 5) FROM {t}",
        "SELECT max(x) FROM {t}",
        "SELECT max(id + 1) FROM {t}",
        "SELECT name, count(*) FROM {t} GROUP BY name",
        "SELECT state, count(*) FROM {t} GROUP BY ROLLUP (state)",
    ],
)
def test_what_the_catalog_does_not_know_is_read(t: Any, sql: str) -> None:
    scans = t.prepare(sql.format(t=TABLE)).scans

    assert [(scan.answered, scan.count) for scan in scans] == [(False, 6)]


def test_names_with_dots_and_quotes_are_told_apart(lake: Any) -> None:
    lake.write(("t",), pa.table({"y": [60], "a.y": [2], 'q"y': [3]}), {"p": pa.scalar("1"), "b.p": pa.scalar("2")})

    sql = f'SELECT max("a.y") AS a, max(y) AS y, max("q""y") AS q, max("b.p") AS b, max(p) AS p FROM {TABLE}'

    assert lake.rows(sql) == [{"a": 2, "y": 60, "q": 3, "b": "2", "p": "1"}]


def test_empty_partitions_make_no_group(lake: Any) -> None:
    empty = pa.table({"id": pa.array([], pa.int64())})
    lake.write(("t",), empty, {"p": pa.scalar("empty")})
    lake.write(("t",), pa.table({"id": [1]}), {"p": pa.scalar("full")})

    assert lake.rows(f"SELECT p, count(*) AS n, max(id) AS m FROM {TABLE} GROUP BY p") == [
        {"p": "full", "n": 1, "m": 1}
    ]
    assert lake.rows(f"SELECT count(*) AS n, max(id) AS m FROM {TABLE} WHERE p = 'empty'") == [{"n": 0, "m": None}]


def test_answers_follow_the_catalog(lake: Any) -> None:
    for i in range(3):
        lake.write(("t",), pa.table({"id": [i]}), {"p": pa.scalar(str(i))})
        assert lake.rows(f"SELECT count(*) AS n, max(id) AS m FROM {TABLE}") == [{"n": i + 1, "m": i}]
