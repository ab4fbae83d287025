"""The rule that leaves out archived files: which files, on which day, and what is said of them."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table
from dagfusion_query.scan import archived_files
from dagfusion_query.scan.archived_files import ArchiveRule, LeftOut, archive_rule, split_archived, warnings_of
from tests.query.engine.consolidating import consolidate
from tests.query.scan.test_prune_property import AGGREGATES, DATE, PARTITION, PREDICATES, ROWS, SCHEMA, SHARD, STATE
from tests.tiers import examples

DAY = dt.timedelta(days=1)
NOON = dt.datetime(2024, 4, 15, 12, tzinfo=dt.UTC)
RULE = archive_rule(90, NOON)
NAME = TableName("local_s", "t")
STATEMENTS = [*AGGREGATES, "SELECT n, s, x, state, date, shard FROM {} WHERE"]


def table_of(written: Sequence[dt.datetime]) -> Table:
    files = pa.table({"modified": pa.array(written, pa.timestamp("us", "UTC")), "number": range(len(written))})
    return Table(("s", "t"), NAME, pa.schema([]), pa.schema([]), "", files)


def numbers(table: Table) -> list[int]:
    return list(table.files["number"].to_pylist())


def test_days_end_at_midnight_in_utc_as_those_of_s3() -> None:
    assert ArchiveRule(90, dt.datetime(2024, 1, 16, tzinfo=dt.UTC)) == RULE
    written = dt.datetime(2024, 1, 15, 10, 30, tzinfo=dt.UTC)
    archived_at = dt.datetime(2024, 1, 19, tzinfo=dt.UTC)  # S3's example of a rule of 3 days
    moment = dt.timedelta(microseconds=1)
    for now, is_left_out in ((archived_at - moment, False), (archived_at, True)):
        _, archive = split_archived(table_of([written]), archive_rule(3, now))
        assert (archive is not None) is is_left_out
    zone = dt.timezone(dt.timedelta(hours=-5))
    assert archive_rule(3, archived_at.astimezone(zone)) == archive_rule(3, archived_at)


@given(
    ages=st.lists(st.sampled_from([0, 1, 89, 90, 91, 400]), max_size=30),
    most=st.integers(0, 4),
    chunks=st.integers(1, 3),
)
@settings(deadline=None)
def test_a_table_is_split_into_what_is_left_and_what_is_not(ages: list[int], most: int, chunks: int) -> None:
    table = table_of([RULE.until + (90 - age) * DAY for age in ages])
    size = max(1, len(ages) // chunks)
    slices = [table.files.slice(start, size) for start in range(0, len(ages), size)] or [table.files]
    table = Table(("s", "t"), NAME, pa.schema([]), pa.schema([]), "", pa.concat_tables(slices))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archived_files, "_MOST_SLICES", most)  # rows are in slices, or copied
        left, archive = split_archived(table, RULE)
    old = [number for number, age in enumerate(ages) if age >= 90]
    assert numbers(left) == [number for number in range(len(ages)) if number not in old]
    assert archive is None if not old else (archive is not None and numbers(archive.table) == old)
    if not old:
        assert left is table


def test_a_query_has_one_warning_for_each_table() -> None:
    def of(*keys: str | None, name: str = "t") -> LeftOut:
        return LeftOut(TableName("local_s", name), pa.chunked_array([keys], pa.string()), RULE)

    (text,) = warnings_of([of(*map(str, range(1198))), None, of("0", "0", "a"), of("1", None)])
    assert text == (
        "the result leaves out 1,200 partitions of local_s.t, whose objects were written by 2024-01-16 00:00 UTC:"
        " DAGFUSION_ARCHIVED_AFTER_DAYS is 90"
    )
    several = warnings_of(of("a", name=f"t{number}") for number in range(7))
    assert len(several) == 6
    assert several[-1] == "the result leaves out partitions of 2 more tables"


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    partitions=st.dictionaries(st.tuples(STATE, DATE, SHARD), st.tuples(ROWS, st.booleans()), min_size=1, max_size=6),
    statements=st.lists(st.tuples(st.sampled_from(STATEMENTS), PREDICATES), min_size=1, max_size=4),
    is_consolidated=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_an_answer_is_that_of_the_files_that_are_left(
    new_lake: Callable[..., Any],
    partitions: dict[tuple[str | None, dt.date | None, int | None], tuple[list[tuple[Any, ...]], bool]],
    statements: list[tuple[str, str]],
    is_consolidated: bool,  # noqa: FBT001
    random: Any,
) -> None:
    ruled = new_lake(settings={"DAGFUSION_ARCHIVED_AFTER_DAYS": "90"}, now=lambda: NOON)
    rest, whole = new_lake(), new_lake()
    empty = {name: pa.scalar("never" if name == "state" else None, kind) for name, kind in PARTITION.items()}
    for values, (rows, is_old) in [((), ([], False)), *partitions.items()]:
        table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
        scalars = {n: pa.scalar(v, t) for (n, t), v in zip(PARTITION.items(), values, strict=True)} if values else empty
        for lake in (ruled, whole, *(() if is_old else (rest,))):
            lake.write(("t",), table, scalars, modified=NOON - (200 if is_old else 2) * DAY)
    if is_consolidated:
        for lake in (ruled, rest):
            consolidate(lake, next(iter(lake.snapshot.tables.values())), random)
    for statement, predicate in statements:
        sql = statement.replace("WHERE", f"WHERE {predicate}").format("local_default.t")
        found = answer(ruled, sql)
        assert found == answer(rest, sql)
        if found != answer(whole, sql):
            assert ruled.prepare(sql).warnings, "it is not silent"


def answer(lake: Any, sql: str) -> list[str]:
    return sorted(map(repr, lake.sql(sql).to_pylist()))
