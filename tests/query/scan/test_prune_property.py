"""A pruned answer is the unpruned one, whatever the table and the predicate, from small objects and from large ones."""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_query.scan import large_objects, table_scan
from tests.query.engine.consolidating import consolidate
from tests.tiers import examples

pytestmark = pytest.mark.slow
STATE = st.sampled_from(["CA", "NY", "a:b", "..", "100%", "ü/日本", "", "null"])
DATE = st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 6))
SHARD = st.integers(-2, 2)
ROWS = st.lists(
    st.tuples(
        st.integers(-5, 5) | st.none(), st.sampled_from(["x", "y", "zz"]) | st.none(), st.floats(-2, 2) | st.none()
    ),
    max_size=4,
)
SCHEMA = pa.schema({"n": pa.int64(), "s": pa.string(), "x": pa.float64()})
PARTITION = {"state": pa.string(), "date": pa.date32(), "shard": pa.int32()}
KEYS = st.tuples(STATE, DATE, SHARD)
WITH_NULL = st.tuples(STATE | st.none(), DATE | st.none(), SHARD | st.none())  # tables with NULL are read from files
PARTITIONS = st.one_of([st.dictionaries(keys, ROWS, min_size=1, max_size=6) for keys in (KEYS, WITH_NULL)])

COLUMNS = {
    "state": st.sampled_from(["'CA'", "'NY'", "'a:b'", "''", "'zz'", "NULL"]),
    "date": st.sampled_from(["DATE '2024-01-02'", "DATE '2024-01-04'", "DATE '2030-01-01'"]),
    "shard": st.integers(-2, 3).map(str),
    "n": st.integers(-6, 6).map(str),
    "s": st.sampled_from(["'x'", "'y'", "'zzz'"]),
    "x": st.sampled_from(["0.0", "-0.5", "1.25", "5"]),
}


def _comparisons(name: str) -> st.SearchStrategy[str]:
    """Return comparisons of a column with a constant, of every form that fits it."""
    value, maybe = COLUMNS[name], st.sampled_from(["", "NOT "])
    operator = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
    forms = [
        st.builds(f"{name} IS {{}}NULL".format, maybe),
        st.builds(f"{name} {{}}IN ({{}})".format, maybe, st.lists(value, min_size=1, max_size=3).map(", ".join)),
        st.builds(f"{name} {{}}BETWEEN {{}} AND {{}}".format, maybe, value, value),
        st.builds(f"{{}} {{}} {name}".format, value, operator),
        st.builds(f"{name} {{}} {{}}".format, operator, value),
        st.builds(f"({name} IS {{}}DISTINCT FROM {{}})".format, maybe, value),  # binds weakly
    ]
    if name in ("state", "s"):
        forms.append(st.builds(f"upper({name}) LIKE '{{}}'".format, st.sampled_from(["C%", "%Y", "Z_", "%"])))
    if name in ("n", "shard"):
        forms.append(st.builds(f"{name} % 2 = {{}}".format, st.integers(0, 1)))
    return st.one_of(forms)


PREDICATES = st.recursive(
    st.sampled_from(sorted(COLUMNS)).flatmap(_comparisons),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda p: f"NOT ({p})"),
        inner.map(lambda p: f"CASE WHEN {p} THEN TRUE ELSE n > 0 END"),
    ),
    max_leaves=5,
)


AGGREGATES = [
    "SELECT count(*) AS c, count(n) AS cn, min(n) AS lo, max(s) AS hi, max(date) AS d FROM {} WHERE",
    "SELECT state, count(*) AS c, min(shard) AS lo, max(x) AS hi FROM {} AS a WHERE GROUP BY state",
    "SELECT date, shard, count(s) AS c FROM {} AS a WHERE GROUP BY date, shard HAVING count(*) > 1",
    "SELECT upper(state) AS u, extract(day FROM date) AS d, count(*) AS c FROM {} WHERE GROUP BY 1, 2",
    "SELECT DISTINCT state FROM {} WHERE",
    "SELECT count(DISTINCT state) AS a, count(DISTINCT n) AS b FROM {} WHERE",
    "SELECT count(*) FILTER (where n > 0) AS a, max(n + shard) AS b, max(s || state) AS c FROM {} WHERE",
    "SELECT state, max(n) FILTER (where s = 'x') AS a, count(n) AS b, max(-n) AS c FROM {} WHERE GROUP BY state",
]


def _written(lake: Any, values: Sequence[Any], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Write the object of a partition; return its rows with the partition columns."""
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
    scalars = {n: pa.scalar(v, t) for (n, t), v in zip(PARTITION.items(), values, strict=True)}
    lake.write(("t",), table, scalars)
    for name, scalar in scalars.items():
        table = table.append_column(name, pa.array([scalar.as_py()] * table.num_rows, scalar.type))
    return table


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    partitions=PARTITIONS,
    predicates=st.lists(PREDICATES, min_size=1, max_size=4),
    seed=st.none() | st.integers(0, 1 << 16),
)
def test_pruning_never_changes_an_answer(
    new_lake: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    partitions: dict[tuple[str | None, dt.date | None, int | None], list[tuple[Any, ...]]],
    predicates: list[str],
    seed: int | None,
) -> None:
    """With a seed, partitions are in large objects, too."""
    lake, plain = new_lake(), SessionContext()
    whole = []
    for values, rows in partitions.items():
        whole.append(_written(lake, values, rows))
    if seed is not None:
        for module in (large_objects, table_scan):
            monkeypatch.setattr(module, "FOOTER_REQUESTS", -(1 << 20))  # few files are worth a large object, too
        monkeypatch.setattr(large_objects, "LEAST_SHARE", 0)
        rng, [table] = Random(seed), lake.snapshot.tables.values()  # noqa: S311
        count = consolidate(lake, table, rng, share=rng.choice([0.7, 1.0]), group_rows=rng.choice([1, 4, 40]))
        [scan] = lake.prepare("SELECT n FROM local_default.t").scans
        assert (scan.large is not None) == (count > 0 and not any(None in values for values in partitions))
    plain.register_record_batches("t", [pa.concat_tables(whole).combine_chunks().to_batches() or [_empty()]])

    for predicate in predicates:
        for aggregate in AGGREGATES:
            over = aggregate.replace("WHERE", f"WHERE {predicate}")
            assert _sorted(lake.sql(over.format("local_default.t"))) == _sorted(
                plain.sql(over.format("t")).to_arrow_table()
            )
        select = "SELECT n, s, x, state, date, shard FROM {} WHERE " + predicate
        assert _sorted(lake.sql(select.format("local_default.t"))) == _sorted(
            plain.sql(select.format("t")).to_arrow_table()
        )


OF_PARTITION = st.recursive(
    st.sampled_from(sorted(PARTITION)).flatmap(_comparisons),
    lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=3,
)


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("seed", range(3))
def test_filters_that_cut_row_groups_never_change_an_answer(
    new_lake: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for module in (large_objects, table_scan):
        monkeypatch.setattr(module, "FOOTER_REQUESTS", -(1 << 20))
    monkeypatch.setattr(large_objects, "LEAST_SHARE", 0)
    rng, lake, plain = Random(seed), new_lake(), SessionContext()  # noqa: S311
    whole = []
    keys = itertools.product(["CA", "NY", "a:b", ""], [dt.date(2024, 1, day) for day in (1, 2, 4)], [-1, 0, 2])
    for values in keys:
        rows = [(rng.choice([-5, 0, 3, None]), rng.choice(["x", "y", None]), rng.choice([0.0, 1.25, None]))] * 2
        whole.append(_written(lake, values, rows))
    [table] = lake.snapshot.tables.values()
    consolidate(lake, table, rng, share=rng.choice([0.9, 1.0]), group_rows=rng.choice([6, 12, 1000]))
    plain.register_record_batches("t", [pa.concat_tables(whole).combine_chunks().to_batches()])
    cut = 0

    @settings(max_examples=examples(60), deadline=None)
    @given(
        OF_PARTITION, st.none() | PREDICATES, st.sampled_from(["n, s, x, state, date, shard", "s", "shard, n, state"])
    )
    def check(of_partition: str, predicate: str | None, columns: str) -> None:
        nonlocal cut
        where = f"WHERE {of_partition}" + ("" if predicate is None else f" AND {predicate}")
        for over in (f"SELECT {columns} FROM {{}} {where}", AGGREGATES[2].replace("WHERE", where)):
            prepared = lake.prepare(over.format("local_default.t"))
            cut += any(scan.row_filter is not None for scan in prepared.scans)
            assert _sorted(lake.sql(over.format("local_default.t"))) == _sorted(
                plain.sql(over.format("t")).to_arrow_table()
            )

    check()
    assert cut


def _empty() -> pa.RecordBatch:
    schema = pa.schema([*SCHEMA, *(pa.field(name, kind) for name, kind in PARTITION.items())])
    return pa.RecordBatch.from_pylist([], schema)


def _sorted(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))
