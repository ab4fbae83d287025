"""Random statements have one answer: spliced, staged, over the same rows in memory, and in DuckDB.

Some tables are read from small objects, some from local copies, some from large objects, and some from all of them.
Some have archived objects, which are left out.
Local copies of large objects are whole in some lakes, and by block in others.
Between two statements, and between the plan of one and its run, partitions are written once more with other rows, and
consolidated: a statement has the rows of its plan, and the next one has the new rows. What was superseded before a
statement was planned is deleted, as the vacuum does. Some files are overwritten.

`DAGFUSION_STATEMENTS` is how many statements are drawn, `DAGFUSION_SEED` what they are drawn from.
"""

import datetime as dt
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datafusion import SessionContext

from dagfusion_query.engine.engine import Prepared
from dagfusion_query.engine.session import new_context
from dagfusion_query.scan import copied_objects, large_objects, table_scan
from dagfusion_query.scan.copied_objects import CopyPolicy
from dagfusion_query.scan.splice import NotSpliceable, Planning, Spliced
from dagfusion_query.scan.stage import stage
from dagfusion_query.settings import Settings
from tests.query.engine.consolidating import consolidate
from tests.query.engine.expressions import Column
from tests.query.engine.random_tables import Files, columns_of, other_rows, random_files, whole
from tests.query.engine.statements import Statement, Writer
from tests.query.peer import duckdb_peer

PER_TABLES = 50
TABLES = max(1, int(os.environ.get("DAGFUSION_STATEMENTS", "300")) // PER_TABLES)
SEED = int(os.environ.get("DAGFUSION_SEED", "8" if "CI" in os.environ else Random().randrange(10**6)))  # noqa: S311
NAMES = ("t", "u")
CONSOLIDATED = float(os.environ.get("DAGFUSION_CONSOLIDATED", "0.6"))  # the share of lakes with large objects
COPIED = 0.5  # the share of lakes whose objects are read from local copies
BLOCKS_BYTES = (2_000, 1, 20_000)  # of blocks of large objects, in every second lake
SOME_BYTES = (2_500, 1 << 20)  # some objects are larger, or none
ARCHIVED = 0.3  # the share of lakes that have archived objects, and of objects that are archived in them
REWRITTEN = 0.2  # the share of statements before which a partition is written once more, and of those during which
LONG_AGO = dt.datetime(2024, 1, 15, tzinfo=dt.UTC)
# Plain DataFusion 55 may lose the columns of a correlated subquery over a field of a struct.
UNPLANNED_SUBQUERY = "Optimizer rule 'scalar_subquery_to_join' failed"
# See `scan/aggregate_faults.py`.
FROM_STATISTICS = re.compile(r"\bsum\(|count\(DISTINCT|FILTER", re.IGNORECASE)
Answer = list[tuple[str, ...]]


class World:
    """Two random tables, in a lake, in memory and in DuckDB."""

    def __init__(self, rng: Random, lake: Any, *, has_archive: bool) -> None:
        self.lake, self.has_archive = lake, has_archive
        self.memory = new_context(Settings.read({}))
        self.duckdb = duckdb_peer()
        self.duckdb.execute("SET TimeZone = 'UTC'; SET threads = 1")
        self.negative_zeros = rng.random() < 0.3
        self.files: dict[str, Files] = {}
        self.paths: dict[str, list[Path]] = {}
        self.is_copied = lake.with_etags = rng.random() < COPIED  # objects without an etag are read in place
        self.columns = {name: self._add(rng, name) for name in NAMES}
        self.is_changed = dict.fromkeys(NAMES, False)
        self.is_consolidated = rng.random() < CONSOLIDATED
        self.consolidate(rng)

    def consolidate(self, rng: Random) -> None:
        """Write partitions of the tables into large objects."""
        for table in [*self.lake.snapshot.tables.values()] if self.is_consolidated else []:
            consolidate(self.lake, table, rng, share=rng.choice([0.7, 1.0]), group_rows=rng.choice([1, 20, 1000, 1000]))

    def rewrite(self, rng: Random, *, may_overwrite: bool = False) -> None:
        """Write a partition once more with other rows, and consolidate again now and then; see `refresh`."""
        name = rng.choice(NAMES)
        files, paths = self.files[name], self.paths[name]
        number = rng.randrange(len(files))
        rows, (_, values) = other_rows(rng, files, number, negative_zeros=self.negative_zeros), files[number]
        folder = paths[number].parent.name if may_overwrite and rng.random() < 0.5 else None
        files[number], paths[number] = (rows, values), self.lake.write((name,), rows, values, folder=folder)
        self.is_changed[name] = True
        if rng.random() < 0.5:
            self.consolidate(rng)

    def refresh(self) -> None:
        """Give the tables in memory and in DuckDB the rows that were written last."""
        for name in NAMES:
            if self.is_changed[name]:
                self.columns[name] = self._load(name)
                self.is_changed[name] = False

    def vacuum(self) -> None:
        """Delete the objects that the catalog does not name any more."""
        tables = self.lake.snapshot.tables.values()
        named = {
            uri for table in tables for part in (table.files, table.consolidated) for uri in part["uri"].to_pylist()
        }
        for folder in (*NAMES, "large"):
            for path in self.lake.root.glob(f"{folder}/**/*.parquet"):
                if f"file://{path}" not in named:
                    path.unlink()

    def spliced(self, prepared: Prepared) -> pa.Table:
        run = self.lake.engine.run(prepared)
        return pa.Table.from_batches(list(iter(run.next, None)), prepared.schema)

    def staged(self, prepared: Prepared, sql: str) -> pa.Table:
        if not prepared.scans:
            return self.spliced(prepared)
        engine, bound = self.lake.engine, prepared.bound
        planning = Planning(bound.context, [*bound.tables.values()], engine._breadth, engine._policy)
        try:
            work = engine._planners.run(lambda: stage(prepared.logical, planning))
        except NotSpliceable:
            unreduced = bound.session.unreduced.sql(sql).optimized_logical_plan()
            work = engine._planners.run(lambda: stage(unreduced, planning))
        return self.spliced(replace(prepared, work=work))

    def _add(self, rng: Random, name: str) -> list[Column]:
        first, *others = random_files(rng, negative_zeros=self.negative_zeros)
        archived = [file for file in others if self.has_archive and rng.random() < ARCHIVED]
        files = self.files[name] = [first, *(file for file in others if not any(file is one for one in archived))]
        self.paths[name] = [self.lake.write((name,), rows, values) for rows, values in files]
        for rows, values in archived:
            self.lake.write((name,), rows, values, modified=LONG_AGO)
        return self._load(name)

    def _load(self, name: str) -> list[Column]:
        table = next(made for made in self.lake.snapshot.tables.values() if made.name.table == name)
        schema = pa.schema([*table.file_schema, *table.partition_schema])
        rows = whole(self.files[name], pa.schema([pa.field(field.name, field.type) for field in schema]))
        _register(self.memory, name, rows)
        self.duckdb.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM rows")
        return columns_of(schema)


@pytest.mark.parametrize("number", range(TABLES))
def test_every_way_has_one_answer(
    new_lake: Callable[..., Any],
    number: int,
    paths: Counter[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (large_objects, table_scan):
        monkeypatch.setattr(module, "FOOTER_REQUESTS", -(1 << 20))  # few files are worth a large object, too
    monkeypatch.setattr(large_objects, "LEAST_SHARE", 0)
    # Also of local files.
    monkeypatch.setattr(CopyPolicy, "_can_copy", lambda _, files: pc.is_valid(files["etag"]))
    monkeypatch.setattr(CopyPolicy, "_can_copy_all", lambda _, files, *__: files["etag"].null_count == 0)
    rng = Random(f"{SEED} {number}")  # noqa: S311
    is_by_block = number % 2 == 1
    if is_by_block:
        monkeypatch.setattr(copied_objects, "COPIED_BYTES", 1)
        monkeypatch.setattr(large_objects, "BLOCK_BYTES", BLOCKS_BYTES[number // 2 % len(BLOCKS_BYTES)])
    has_archive = rng.random() < ARCHIVED
    archive = {"DAGFUSION_ARCHIVED_AFTER_DAYS": "90"} if has_archive else {}
    largest = {"DAGFUSION_OBJECT_CACHE_OBJECT_BYTES": str(rng.choice([1, *SOME_BYTES] if is_by_block else SOME_BYTES))}
    threads = {"DAGFUSION_PARALLELISM": str(rng.choice([1, 4]))}  # one plan partition has plans of its own
    world = World(rng, new_lake(settings=largest | archive | threads), has_archive=has_archive)
    request.addfinalizer(world.duckdb.close)
    wrong: list[str] = []
    for _ in range(PER_TABLES):
        if rng.random() < REWRITTEN:
            world.rewrite(rng, may_overwrite=True)
            world.vacuum()
        world.refresh()
        statement = Writer(rng, world.columns, negative_zeros=world.negative_zeros).statement()
        meanwhile = partial(world.rewrite, rng) if rng.random() < REWRITTEN else None
        wrong += _differences(world, statement, paths, meanwhile)
    assert not wrong, f"DAGFUSION_SEED={SEED}, tables {number}:\n" + "\n".join(wrong)


@pytest.fixture(scope="module")
def paths(heavy: None) -> Iterator[Counter[str]]:  # noqa: ARG001
    """Count how statements ran and who answered them."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"\nseed {SEED}: {dict(counted)}")  # noqa: T201
    if counted["statements"] >= 300:
        assert all(counted[name] for name in ("by splice", "by catalog", "by staged", "staged", "memory", "duckdb"))
        assert counted["refused"] * 20 <= counted["statements"]
    if counted["statements"] >= 10_000:
        assert 0 < counted["filtered"] < counted["large"]
    if counted["statements"] >= 3_000:
        assert counted["left out"]
        assert 0 < counted["in place, too"] < counted["copied"]
        assert 0 < counted["mixed"] < counted["large"]
        assert 0 < counted["blocks"] < counted["copied"]


def _differences(
    world: World, statement: Statement, paths: Counter[str], meanwhile: Callable[[], None] | None
) -> Iterator[str]:
    """Yield the ways of a statement whose answer is not the spliced one's; something may happen after it is planned."""
    paths["statements"] += 1
    over_lake = statement.sql.replace("{t}", "local_default.t").replace("{u}", "local_default.u")
    plain = statement.sql.replace("{t}", "t").replace("{u}", "u")
    renamed = _renamed(statement.sql, world.columns)
    answers: dict[str, Answer | str]
    try:
        prepared = world.lake.prepare(over_lake)
    except Exception as error:  # noqa: BLE001
        answers = dict.fromkeys(("spliced", "staged"), _refusal(error))
    else:
        paths[f"by {prepared.path}"] += 1
        paths["left out"] += bool(prepared.warnings)
        paths["large"] += any(scan.large is not None for scan in prepared.scans)
        paths["filtered"] += any(scan.row_filter is not None for scan in prepared.scans)
        paths["mixed"] += any(len(scan.parts) > 1 for scan in prepared.scans)
        copied = prepared.work.copied if isinstance(prepared.work, Spliced) else []
        paths["copied"] += bool(copied)
        paths["in place, too"] += any(not scan.is_large for scan in prepared.work.in_place) if copied else 0
        paths["blocks"] += any(part.is_block for scan in copied for part in scan.parts)
        if meanwhile is not None:
            meanwhile()
        answers = {
            "spliced": _answer(lambda: world.spliced(prepared), statement),
            "staged": _answer(lambda: world.staged(prepared, over_lake), statement),
        }
    if "memory" not in statement.apart:
        in_memory = _answer(lambda: world.memory.sql(renamed).to_arrow_table(), statement)
        refusal = in_memory if isinstance(in_memory, str) else ""
        if UNPLANNED_SUBQUERY not in refusal and (refusal or not _reads_no_row(world.memory, renamed)):
            answers["memory"] = in_memory
    if all(isinstance(answer, str) for answer in answers.values()):
        paths["refused"] += 1
        return
    if "duckdb" not in statement.apart:
        answers["duckdb"] = _answer(lambda: world.duckdb.execute(plain).to_arrow_table(), statement)
    paths.update(answers.keys())
    if any(isinstance(answer, str) for answer in answers.values()) or len(set(map(repr, answers.values()))) > 1:
        yield "\n".join([plain, *(f"    {way}: {_shown(answer)}" for way, answer in answers.items())])


def _reads_no_row(context: SessionContext, sql: str) -> bool:
    """Return True for what plain DataFusion 55 takes from statistics, and may take wrongly."""
    if not FROM_STATISTICS.search(sql):
        return False
    return "PlaceholderRowExec" in context.sql(sql).execution_plan().display_indent()


def _renamed(sql: str, tables: Mapping[str, Sequence[Column]]) -> str:
    """Return a statement in which columns of different mentions of tables have different names.

    Plain DataFusion 55 may filter the other column of one name: see `scan/plan_faults.py`.
    """

    def mention(found: re.Match[str]) -> str:
        table, alias = found.groups()
        columns = ", ".join(f"{name} AS {alias}_{name}" for name, _, _ in tables[table] if "[" not in name)
        return f"(SELECT {columns} FROM {table}) AS {alias}"

    return re.sub(r"\{(\w)\} AS (a\d+)", mention, re.sub(r"\b(a\d+)\.(\w+)", r"\1.\1_\2", sql))


def _answer(run: Callable[[], pa.Table], statement: Statement) -> Answer | str:
    try:
        table = run()
    except Exception as error:  # noqa: BLE001
        return _refusal(error)
    rows = list(zip(*([_cell(value) for value in column.to_pylist()] for column in table.columns), strict=True))
    return rows if statement.is_ordered else sorted(rows)


def _refusal(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _shown(answer: Answer | str) -> str:
    return answer[:300] if isinstance(answer, str) else f"{len(answer)} rows, {str(answer)[:600]}"


def _cell(value: Any) -> str:
    """Return a value as text that equal values of all engines' types share; zeros are equal, and so are NaNs."""
    match value:
        case dt.datetime():
            return repr(value.replace(tzinfo=None).isoformat(sep=" "))
        case dict():
            return repr({name: _cell(inner) for name, inner in value.items()})
        case float():
            return "nan" if math.isnan(value) else repr(value + 0.0)
        case Decimal():
            return str(int(value)) if value == int(value) else str(value.normalize())
    return repr(value)


def _register(context: SessionContext, name: str, rows: pa.Table) -> None:
    context.deregister_table(name)
    batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
    context.register_record_batches(name, [batches])
