"""Random statements of the subset of SQL that the Spark engine is sent."""

import random
from collections.abc import Iterator

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


def statements(seed: int, count: int) -> Iterator[str]:
    """Yield statements, the same for one seed. Each orders its rows by all of its columns."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(count):
        yield _query(chance)


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
            f"nullif({one}, {other})",
            f"CASE WHEN {_truth(chance, depth - 1)} THEN {one} ELSE {other} END",
            f"{one} % 7",
            f"length({_text(chance, depth - 1)}) * {chance.choice(_NUMBERS)}",
            f"extract(year FROM {_time(chance, 0)})",
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
            f"{one} IS DISTINCT FROM {other}",
            f"(NOT n = 1 OR {_time(chance, 0)} > DATE '2024-01-31')",
        )
    )
