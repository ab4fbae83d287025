"""Blocks of files with other values are not looked at, and the files that are found do not depend on that."""

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from datafusion import Expr
from datafusion.expr import Filter

from dagfusion_contract.naming import TableName
from dagfusion_query.scan import prune, pruning_tables
from dagfusion_query.scan.listing_tables import ScanLayout
from dagfusion_query.scan.prune import Pruner
from dagfusion_query.scan.pruning_tables import context_over, files_table

NAME = TableName("local_default", "t")
FILES = 97
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "state": (pa.string(), ["", "CA", "NY", "a:b", "..", "100%", "ü/日本", "\U0010ffff", "null"]),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(9999, 12, 31)]),
    "shard": (pa.int32(), [-(1 << 31), -1, 0, 1, (1 << 31) - 1]),
    "share": (pa.float64(), [-math.inf, -1.5, -0.0, 0.0, 2.5, math.inf, math.nan]),
    "is_open": (pa.bool_(), [False, True]),
    "price": (pa.decimal128(9, 2), [Decimal("-1.50"), Decimal("0.00"), Decimal("9.99")]),
    "at": (pa.timestamp("ns", "UTC"), [0, 1, 1_704_067_200_000_000_001, (1 << 62) + 1]),
}
WHERE = [
    "state = 'CA'",
    "'NY' < state",
    "state <> 'CA' AND date = DATE '2024-01-02'",
    "state IN ('CA', '..', 'zz')",
    f"state IN ({', '.join(repr(f'v{number}') for number in range(100))}, 'CA')",
    "state NOT IN ('CA', 'NY')",
    "state LIKE 'C%' OR date = DATE '2024-01-01'",
    "(state = 'CA' AND date = DATE '2024-01-02') OR (state = 'ü/日本' AND shard = 0)",
    "NOT (state = 'CA' OR shard > 0)",
    "CASE WHEN state = 'CA' THEN shard = 0 ELSE date > DATE '2024-01-01' END",
    "state IS NULL",
    "state IS NOT NULL AND date IS NULL",
    "state IS DISTINCT FROM 'CA'",
    "date BETWEEN DATE '2024-01-01' AND DATE '2024-01-31'",
    "date NOT BETWEEN DATE '2024-01-01' AND DATE '2024-01-31'",
    "CAST(date AS VARCHAR) = '2024-01-02'",
    "CAST(shard AS BIGINT) >= 2147483647",
    "shard % 2 = 1",
    "shard = 5",
    "share = -0.0",
    "share < 0.0",
    "share > 2.5",
    "share <> 0.0 AND state = 'CA'",
    "is_open",
    "NOT is_open",
    "is_open = false",
    "price > 0.5",
    "at = TIMESTAMP '2024-01-01T00:00:00.000000001Z'",
    "at > TIMESTAMP '2024-01-01T00:00:00Z'",
    " OR ".join(f"(shard = {number} AND state = 'CA')" for number in range(300)),
    "n > 3 AND state = 'NY'",
    "n > 3 OR state = 'NY'",
]


@cache
def files(seed: int) -> pa.Table:
    """A catalog whose neighbours often have the same values, with or without NULL."""
    rng = Random(seed)  # noqa: S311
    arrays = []
    for kind, values in VALUES.values():
        column: list[Any] = []
        while len(column) < FILES:
            column += [rng.choice([*values, None] if seed % 2 else values)] * rng.choice([1, 3, 12])
        numbers = pa.timestamp("ns", "UTC") == kind
        arrays.append(pa.array(column[:FILES], pa.int64() if numbers else kind).cast(kind))
    partition = pa.StructArray.from_arrays(arrays, names=[*VALUES])
    bounds = [pa.array([rng.randrange(9) for _ in range(FILES)], pa.int64())] * 2 + [pa.array([0] * FILES, pa.int64())]
    stats = pa.StructArray.from_arrays([pa.StructArray.from_arrays(bounds, names=["min", "max", "nulls"])], names=["n"])
    whole = pa.table({"rows": pa.array([1] * FILES, pa.int64()), "partition": partition, "stats": stats})
    return pa.concat_tables([whole.slice(0, 40), whole.slice(40, 1), whole.slice(41)])


def pruner(seed: int) -> Pruner:
    schema = pa.schema([(name, kind) for name, (kind, _) in VALUES.items()])
    return Pruner(ScanLayout(NAME, frozenset(), schema), files(seed))


def filters(where: str) -> list[Expr]:
    """The filters as the optimizer gives them to a scan: one for each part of an AND."""
    table = files_table(files(0), [(0, 0)])
    columns = {name: table[name] for name in VALUES} | {"n": pa.chunked_array([], pa.int64())}
    plan = context_over(NAME, pa.table(columns)).sql(f"SELECT * FROM {NAME} WHERE {where}").optimized_logical_plan()
    while not isinstance(plan.to_variant(), Filter):
        [plan] = plan.inputs()
    return [*_conjuncts(Expr(plan.to_variant().predicate()))]


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if expr.variant_name() == "BinaryExpr" and expr.to_variant().op() == "AND":
        for operand in expr.rex_call_operands():
            yield from _conjuncts(operand)
    else:
        yield expr


@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("where", WHERE)
def test_blocks_do_not_change_the_files(monkeypatch: pytest.MonkeyPatch, where: str, size: int) -> None:
    exprs = filters(where)
    for seed in range(2):
        every = pruner(seed).prune(exprs, str(NAME))
        with monkeypatch.context() as patch:
            for module in (prune, pruning_tables):
                patch.setattr(module, "BLOCK_FILES", size)
            patch.setattr(prune, "LEAST_BLOCKS", 1)
            patch.setattr(pruning_tables, "MOST_SHARE", 1.0)
            assert pruner(seed).prune(exprs, str(NAME)) == every


def test_a_chunk_without_rows_does_not_disturb_filters() -> None:
    """DataFusion panicked because of its offset."""
    states = pa.array(["CA", "NY", "100%"])
    context = context_over(NAME, pa.table({"state": pa.chunked_array([states.slice(1, 0), states])}))
    assert context.sql(f"SELECT state FROM {NAME} WHERE state ILIKE 'c_'").to_pydict() == {"state": ["CA"]}
