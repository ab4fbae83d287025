"""Statements of the subset of SQL that the Spark engine is sent, and random ones, over rows in the text and a table."""

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl

PLACES = "uat_default.places"
# It runs for minutes. A task of Sail stops when it reads its next batch, so each batch of a table gives few rows.
LINES = " UNION ALL ".join(["SELECT l_suppkey FROM uat_default.lineitem"] * 8)
ENDLESS = (
    f"SELECT sum(exp(b.l_tax + c.l_tax)) AS s FROM ({LINES}) a "
    "JOIN uat_default.lineitem b ON a.l_suppkey = b.l_suppkey "
    "JOIN uat_default.lineitem c ON b.l_orderkey = c.l_orderkey"
)
SAME = (
    f"SELECT place, n, text FROM {PLACES}",
    f"SELECT place, text, n FROM {PLACES} ORDER BY text, n DESC LIMIT 5",
    f"SELECT count(*) AS c, count(text) AS t, min(place) AS a, max(place) AS z, avg(n) AS m FROM {PLACES}",
    f"SELECT n FROM {PLACES} WHERE text = 'it''s \\ 5€' AND place <> 'a\\b' ORDER BY n",
    f"SELECT n * 1000000 AS far, n + 0.5 AS half, upper(place) AS p, DATE '2024-02-29' AS d FROM {PLACES}",
    f'WITH b AS (SELECT "n" AS k FROM {PLACES}) SELECT count(*) AS c FROM b JOIN {PLACES} ON k = n /* n */ -- n',
    f"SELECT place, row_number() OVER (PARTITION BY place ORDER BY n DESC) AS r, n FROM {PLACES}",
    "SELECT place, total FROM uat_gold.totals",
    "SELECT t.total, p.n FROM uat_gold.totals t JOIN uat_default.places p ON t.place = p.place WHERE t.total > 12",
    "SELECT place, n FROM uat_default.nulls ORDER BY place, n DESC",
    "SELECT count(*) AS c, count(place) AS p, sum(n) AS s FROM uat_default.nulls WHERE place IS NULL",
    "SELECT n FROM uat_default.nulls WHERE place IS DISTINCT FROM 'x'",
    "SELECT 1 AS one, CAST(NULL AS VARCHAR) AS nothing",
    "SELECT n FROM uat_default.places WHERE false",
)
ORGS = "uat_default.orgs"
TOO_LARGE = {
    "rows": f"SELECT a.id FROM {ORGS} a JOIN {ORGS} b ON a.state = b.state",
    "bytes": "SELECT l_comment, l_shipinstruct, l_shipmode, l_extendedprice, l_partkey FROM uat_default.lineitem",
}

_NUMBERS = ("n", "k", "1", "0", "7", "2147483647", "4000000000", "-3")
_DOUBLES = ("x", "0.5", "-1.25", "1e3", "n * 1.0")
_TEXTS = ("s", "t", "'b'", "''", "'it''s'", "'x y'", r"'a\b'", "'10'")
_TIMES = ("d", "DATE '2024-02-29'", "CAST('2023-12-31' AS DATE)")
_ROWS = (
    "(1, 5, 0.5, 'a', ' b ', DATE '2024-01-31')",
    "(2, 2147483647, -2.25, 'B', 'xax', DATE '2023-12-31')",
    "(NULL, 3, NULL, NULL, 'a', NULL)",
    "(3, NULL, 1e3, 'it''s', NULL, DATE '2024-02-29')",
    "(3, 4000000000, 0.5, 'a', '10', DATE '2024-02-29')",
)
TABLE = f"(VALUES {', '.join(_ROWS)}) a(n, k, x, s, t, d)"

ODD = "uat_default.odd"
_FIRST = datetime(2024, 2, 1, 3, 59, 30, 5)  # noqa: DTZ001  # tables have such timestamps
_COUNT = 18
# NULL in each column but the first, equal times, NaN, decimals, and columns that are called as keywords are.
ROWS = pl.DataFrame(
    {
        "id": range(_COUNT),
        "part": [("x", "y", "z/1")[number % 3] for number in range(_COUNT)],
        "n": pl.Series([None if number % 5 == 0 else number % 4 for number in range(_COUNT)], dtype=pl.Int32),
        "k": [None if number % 7 == 3 else (number - 9) * 1_000_000_007 for number in range(_COUNT)],
        "x": [
            None if number % 6 == 1 else float("nan") if number == 8 else number * 0.25 - 1 for number in range(_COUNT)
        ],
        "price": pl.Series(
            [None if number % 8 == 2 else Decimal(number * 37 - 200) / 100 for number in range(_COUNT)],
            dtype=pl.Decimal(10, 2),
        ),
        "w": [None if number % 3 != 1 else "abc"[number % 4 % 3] for number in range(_COUNT)],
        "b": [None if number % 9 == 4 else number % 2 == 0 for number in range(_COUNT)],
        "d": [
            None if number % 6 == 5 else date(2024, 1 + number // 3, 31 - number // 3 * 2) for number in range(_COUNT)
        ],
        "ts": pl.Series(
            [None if number % 5 == 4 else _FIRST + timedelta(hours=13 * number) for number in range(_COUNT)],
            dtype=pl.Datetime("us"),
        ),
        "desc": [None if number % 4 == 2 else number % 5 for number in range(_COUNT)],
        "by": [number * 7 % 11 for number in range(_COUNT)],
    }
)


def statements(seed: int, count: int) -> Iterator[str]:
    """Yield statements, the same for one seed. Each orders its rows by all of its columns."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(count):
        yield _query(chance)


def over_table(seed: int, count: int) -> Iterator[str]:
    """Yield statements over a table with the rows `ROWS`, the same for one seed. Each orders its rows wholly."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    kinds = (_names_after_a_dot, _window, _frame_of_range, _added, _decimals, _correlated)
    for number in range(count):
        yield kinds[number % len(kinds)](chance)


def _names_after_a_dot(chance: random.Random) -> str:
    keys = [name + chance.choice(("", " DESC", " NULLS FIRST")) for name in chance.sample(("o.desc", "o.by", "o.x"), 2)]
    where = chance.choice(("o.by BETWEEN 2 AND 9", "o.desc IS NULL", "o.x > 0", "o.b", "o.desc IN (1, 2) OR NOT o.b"))
    return f"SELECT o.desc, o.by, o.x * 2.0 AS y FROM {ODD} o WHERE {where} ORDER BY {', '.join(keys)}, o.id LIMIT 9"


def _window(chance: random.Random) -> str:
    calls = ("first_value(w) IGNORE NULLS", "last_value(w) IGNORE NULLS", "lag(w, 2)", "lead(w, 1)", "nth_value(w, 2)")
    shown, frame = chance.choice(calls), chance.choice(("", " ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING"))
    part, order = chance.choice(("", "PARTITION BY part ")), chance.choice(("id", "id DESC", "n DESC, id"))
    return f"SELECT id, {shown} OVER ({part}ORDER BY {order}{frame}) AS c FROM {ODD} ORDER BY id"


def _frame_of_range(chance: random.Random) -> str:
    frame = chance.choice(("UNBOUNDED PRECEDING", "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"))
    order, of = chance.choice(("d", "d DESC", "n", "ts")), chance.choice(("k", "n", "price"))
    return f"SELECT id, sum({of}) OVER (PARTITION BY b ORDER BY {order} RANGE {frame}) AS c FROM {ODD} ORDER BY id"


def _added(chance: random.Random) -> str:
    unit, sign, count = chance.choice(("day", "week", "month", "year")), chance.choice("+-"), chance.randint(1, 13)
    added = chance.choice((f"INTERVAL '{count} {unit}s'", f"INTERVAL '{count}' {unit.upper()}"))
    time, constant = chance.choice((("ts", "TIMESTAMP '2024-02-05 10:00:00'"), ("d", "DATE '2024-03-31'")))
    where = chance.choice((f"{time} {sign} {added} < {constant}", f"{time} >= {constant} {sign} {added}", "true"))
    shown = f"extract({chance.choice(('year', 'month', 'week', 'doy'))} FROM {time}) AS p"
    return f"SELECT id, {time} {sign} {added} AS t, {shown} FROM {ODD} WHERE {where} ORDER BY id"


def _decimals(chance: random.Random) -> str:
    call = f"{chance.choice(('sum', 'min', 'max', 'count'))}({chance.choice(('price', 'price * 2', 'DISTINCT price'))})"
    where = chance.choice(("price > 0.5", "price BETWEEN 0 AND 3", "price * 2 < 2.5", "NOT b"))
    return f"SELECT part, {call} AS c, count(*) AS d FROM {ODD} WHERE {where} GROUP BY 1 ORDER BY 1"


def _correlated(chance: random.Random) -> str:
    sign = chance.choice(("<", "=", ">="))
    where = chance.choice(
        (
            f"EXISTS (SELECT 1 FROM {ODD} i WHERE i.n = o.n AND i.id {sign} o.by)",
            f"o.n {sign} (SELECT max(i.n) FROM {ODD} i WHERE i.part = o.part AND i.b)",
            f"o.id NOT IN (SELECT i.n FROM {ODD} i WHERE i.n IS NOT NULL)",
            f"o.by IN (SELECT i.id FROM {ODD} i WHERE i.part = o.part)",
        )
    )
    return f"SELECT o.id, o.part FROM {ODD} o WHERE {where} ORDER BY o.id DESC"


def _query(chance: random.Random) -> str:
    columns = [chance.choice((_number, _double, _text, _truth, _time))(chance, 2) for _ in range(chance.randint(1, 3))]
    names = [f"c{number}" for number in range(len(columns))]
    keys = ", ".join(name + chance.choice(("", " DESC", " NULLS FIRST", " DESC NULLS LAST")) for name in names)
    where = f" WHERE {_truth(chance, 1)}" if chance.random() < 0.5 else ""
    match chance.randrange(5):
        case 0:
            aggregates = [_aggregate(chance) for _ in columns[1:]]
            shown = ", ".join(f"{text} AS {name}" for text, name in zip([columns[0], *aggregates], names, strict=True))
            return f"SELECT {shown} FROM {TABLE}{where} GROUP BY 1 ORDER BY {keys}"
        case 1:
            columns[0] = f"sum(k) OVER (PARTITION BY s ORDER BY n{chance.choice(('', ' DESC'))}, k, x, t)"
        case 2:
            columns[0] = f"{chance.choice(('lag', 'lead'))}(n, 1) OVER (ORDER BY k DESC, n)"
    shown = ", ".join(f"{text} AS {name}" for text, name in zip(columns, names, strict=True))
    source = f"{TABLE} LEFT JOIN (SELECT n AS m, s AS r FROM {TABLE}) b ON n = m" if chance.random() < 0.2 else TABLE
    operator = chance.choice((" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ", *[None] * 8))
    other = "" if operator is None else f"{operator}SELECT {shown} FROM {TABLE} WHERE {_truth(chance, 1)}"
    limit = chance.choice(("", "", f" LIMIT {chance.randint(1, 4)} OFFSET {chance.randint(0, 2)}"))
    return f"SELECT {chance.choice(('', 'DISTINCT '))}{shown} FROM {source}{where}{other} ORDER BY {keys}{limit}"


def _aggregate(chance: random.Random) -> str:
    name = chance.choice(("count", "sum", "min", "max", "avg"))
    of = chance.choice(("n", "k", "x", "DISTINCT n"))
    kept = f" FILTER (WHERE {_truth(chance, 1)})" if chance.random() < 0.3 else ""
    return f"{name}({of}){kept}" if chance.random() < 0.9 else "count(*)"


def _number(chance: random.Random, depth: int) -> str:
    if not depth:
        return chance.choice(_NUMBERS)
    one, other = _number(chance, depth - 1), _number(chance, depth - 1)
    return chance.choice(
        (
            f"({one} + {other})",
            f"({one} - {other})",
            f"coalesce({one}, {other})",
            f"CASE WHEN {_truth(chance, depth - 1)} THEN {one} ELSE {other} END",
            f"{one} % 7",
            f"length({_text(chance, depth - 1)}) * {chance.choice(_NUMBERS)}",
            f"extract({chance.choice(('year', 'month'))} FROM d)",
            f"greatest({one}, {other})",
            one,
        )
    )


def _double(chance: random.Random, depth: int) -> str:
    if not depth:
        return chance.choice(_DOUBLES)
    one, other = _double(chance, depth - 1), _number(chance, depth - 1)
    return chance.choice((f"({one} * {other})", f"({one} + {other})", f"{other} / 4.0", f"abs({one})", one))


def _text(chance: random.Random, depth: int) -> str:
    if not depth:
        return chance.choice(_TEXTS)
    one = _text(chance, depth - 1)
    start, length = chance.randint(1, 3), chance.randint(0, 3)
    return chance.choice(
        (
            f"upper({one})",
            f"trim({one})",
            f"trim({chance.choice(('BOTH', 'LEADING', 'TRAILING'))} 'x' FROM {one})",
            f"substring({one}, {start}, {length})",
            f"substring({one} FROM {start} FOR {length})",
            f"replace({one}, 'a', 'yy')",
            f"coalesce({one}, {_text(chance, 0)})",
            one,
        )
    )


def _time(chance: random.Random, depth: int) -> str:
    if not depth:
        return chance.choice(_TIMES)
    return chance.choice((f"date_trunc('month', {_time(chance, 0)})", f"coalesce(d, {_time(chance, 0)})", "d"))


def _truth(chance: random.Random, depth: int) -> str:
    one, other = _number(chance, depth), _number(chance, depth)
    return chance.choice(
        (
            f"{one} {chance.choice(('=', '<>', '<', '>='))} {other}",
            f"{one} IN (1, {other})",
            f"{_text(chance, depth)} {chance.choice(('=', '<'))} {_text(chance, 0)}",
            f"{_text(chance, depth)} LIKE '{chance.choice(('a%', '%x%', '_'))}'",
            f"{_double(chance, depth)} BETWEEN 0 AND 2.5",
            f"{one} IS {chance.choice(('', 'NOT '))}NULL",
            f"{one} IS DISTINCT FROM ({other})",
            f"(NOT n = 1 OR {_time(chance, 0)} > DATE '2024-01-31')",
        )
    )
