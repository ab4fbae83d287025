"""The field numbers of DataFusion's plans, found again in plans of the version that is installed."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

from dagfusion_query import plan_messages as messages
from dagfusion_query.wire import children, fields, uint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t") / "day=7"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2], "x": [1.5, 2.5], "name": ["p", "q"]}), folder / "f.parquet")
    return folder.parent


@pytest.fixture(scope="module")
def context(folder: Path) -> SessionContext:
    context = SessionContext()
    context.register_listing_table("t", folder, table_partition_cols=[("day", pa.int64())], file_extension=".parquet")
    return context


def parts(message: bytes, number: int) -> list[bytes]:
    """Return the sub-messages of a field; none of bytes that are no message."""
    try:
        return children(message, number)
    except (IndexError, ValueError):
        return []


def holders(message: bytes, path: tuple[int, ...]) -> list[bytes]:
    """Return what is at the end of a path of fields, wherever in a message it begins."""
    found, waiting = [], [message]
    while waiting:
        node = waiting.pop()
        ends = [node]
        for number in path:
            ends = [inner for end in ends for inner in parts(end, number)]
        found += ends
        try:
            waiting += [field.value for field in fields(node) if isinstance(field.value, bytes) and field.value]
        except (IndexError, ValueError):
            continue
    return found


def test_the_numbers_are_those_of_the_pinned_version(root: Path) -> None:
    pinned = tomllib.loads((root / "packages" / "query" / "pyproject.toml").read_text())["project"]["dependencies"]

    assert f"datafusion=={messages.VERSION}" in pinned
    assert version("datafusion") == messages.VERSION


def test_a_scan_of_files(context: SessionContext, folder: Path) -> None:
    plan = context.sql("SELECT a FROM t WHERE a > 1 AND day = 7").optimized_logical_plan().to_bytes()
    scan = messages.ListingTableScanNode

    (node,) = [
        found
        for found in holders(plan, (messages.LogicalPlanNode.LISTING_SCAN,))
        if any(str(folder).encode() in path for path in parts(found, scan.PATHS))
    ]
    (columns,) = children(node, scan.PROJECTION)
    assert b"a" in children(columns, messages.ProjectionColumns.COLUMNS)
    assert len(children(node, scan.FILTERS)) == 2
    (name,) = children(node, scan.TABLE_NAME)
    assert [part for level in messages.TableReference.LEVELS for part in holders(name, (level,))]


def test_an_aggregate_over_an_alias(context: SessionContext) -> None:
    plan = context.sql("SELECT day, min(b.x) AS low FROM t AS b GROUP BY day").logical_plan().to_bytes()
    node, call = messages.LogicalPlanNode, messages.AggregateUDFExprNode

    (aggregate,) = holders(plan, (node.PROJECTION, messages.ProjectionNode.INPUT, node.AGGREGATE))
    (alias,) = holders(aggregate, (messages.AggregateNode.INPUT, node.SUBQUERY_ALIAS))
    assert holders(alias, (messages.SubqueryAliasNode.INPUT, node.LISTING_SCAN))
    assert b"b" in b"".join(children(alias, messages.SubqueryAliasNode.ALIAS))
    (group,) = children(aggregate, messages.AggregateNode.GROUP_EXPR)
    assert children(children(group, messages.LogicalExprNode.COLUMN)[0], messages.Column.NAME) == [b"day"]
    (function,) = holders(aggregate, (messages.AggregateNode.AGGR_EXPR, messages.LogicalExprNode.AGGREGATE_UDF))
    assert children(function, call.FUN_NAME) == [b"min"]
    (argument,) = children(function, call.ARGS)
    assert children(children(argument, messages.LogicalExprNode.COLUMN)[0], messages.Column.NAME) == [b"x"]
    named = holders(plan, (messages.ProjectionNode.EXPR, messages.LogicalExprNode.ALIAS))
    assert [b"low"] in [children(inner, messages.AliasNode.ALIAS) for inner in named]


def test_an_ordered_call(context: SessionContext) -> None:
    sql = "SELECT first_value(a ORDER BY x DESC) FILTER (WHERE a > 1) FROM t"
    plan = context.sql(sql).logical_plan().to_bytes()

    (function,) = holders(plan, (messages.AggregateNode.AGGR_EXPR, messages.LogicalExprNode.AGGREGATE_UDF))
    (order,) = children(function, messages.AggregateUDFExprNode.ORDER_BY)
    assert len(children(function, messages.AggregateUDFExprNode.FILTER)) == 1
    assert children(order, messages.SortExprNode.EXPR)
    assert not [field for field in fields(order) if field.number == messages.SortExprNode.ASC and field.value]


def test_rows_of_constants_and_a_cast(context: SessionContext) -> None:
    plan = context.sql("SELECT CAST(column1 AS DECIMAL(12, 2)) AS d FROM (VALUES (1, 'a'), (2, 'b'))").logical_plan()

    (values,) = holders(plan.to_bytes(), (messages.LogicalPlanNode.VALUES,))
    assert [field.value for field in fields(values) if field.number == messages.ValuesNode.N_COLS] == [2]
    cells = [
        children(cell, messages.LogicalExprNode.LITERAL)[0]
        for cell in children(values, messages.ValuesNode.VALUES_LIST)
    ]
    assert [field.number for field in fields(cells[0])] == [messages.ScalarValue.INT64]
    assert children(cells[1], messages.ScalarValue.UTF8) == [b"a"]
    (cast,) = holders(plan.to_bytes(), (messages.AliasNode.EXPR, messages.LogicalExprNode.CAST))
    assert holders(cast, (messages.CastNode.EXPR, messages.LogicalExprNode.COLUMN))
    (kind,) = holders(cast, (messages.CastNode.ARROW_TYPE, messages.ArrowType.DECIMAL128))
    numbers = messages.DecimalType.PRECISION, messages.DecimalType.SCALE
    assert {field.number: field.value for field in fields(kind)} == dict(zip(numbers, (12, 2), strict=True))


def test_a_physical_scan(context: SessionContext, folder: Path) -> None:
    plan = context.sql("SELECT a FROM t WHERE x > 1 LIMIT 1").execution_plan().to_bytes()
    conf = messages.FileScanExecConf

    path = str(folder / "day=7" / "f.parquet").lstrip("/").encode()
    (found,) = [
        inner
        for inner in holders(plan, (messages.ParquetScanExecNode.BASE_CONF, conf.FILE_GROUPS, messages.FileGroup.FILES))
        if parts(inner, messages.PartitionedFile.PATH) == [path]
    ]
    facts = {field.number: field.value for field in fields(found)}
    assert facts[messages.PartitionedFile.SIZE] == (folder / "day=7" / "f.parquet").stat().st_size
    assert facts[messages.PartitionedFile.LAST_MODIFIED_NS] == (folder / "day=7" / "f.parquet").stat().st_mtime_ns
    assert holders(found, (messages.PartitionedFile.PARTITION_VALUES,))
    stores = holders(plan, (messages.ParquetScanExecNode.BASE_CONF, conf.OBJECT_STORE_URL))
    assert b"file:///" in stores
    assert holders(plan, (messages.ParquetScanExecNode.PARQUET_OPTIONS, messages.TableParquetOptions.GLOBAL))


def test_a_limit_of_partitions(tmp_path: Path) -> None:
    config = SessionConfig().with_target_partitions(2).set("datafusion.optimizer.repartition_file_scans", "false")
    context = SessionContext(config)
    for name in "pq":
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / f"{name}.parquet")
    context.register_parquet("u", tmp_path)
    plan = context.sql("SELECT a FROM u LIMIT 3").execution_plan().to_bytes()
    (merged,) = children(plan, messages.PhysicalPlanNode.MERGE)
    merge = messages.CoalescePartitionsExecNode
    assert [field.value for field in fields(merged) if field.number == merge.FETCH] == [3]
    assert holders(merged, (merge.INPUT, messages.PhysicalPlanNode.PARQUET_SCAN))


def test_a_limit(context: SessionContext) -> None:
    plan = context.sql("SELECT a FROM t ORDER BY a LIMIT 7 OFFSET 3").logical_plan().to_bytes()
    limit = messages.LimitNode

    found = {field.number: field.value for field in fields(children(plan, messages.LogicalPlanNode.LIMIT)[0])}
    assert (found[limit.SKIP], found[limit.FETCH]) == (3, 7)
    assert isinstance(found[limit.INPUT], bytes)


def test_a_filter_and_an_operator(context: SessionContext) -> None:
    plan = context.sql("SELECT a FROM t WHERE a > 1 OR name = 'q'").logical_plan().to_bytes()
    binary = messages.BinaryExprNode

    (filtered,) = holders(plan, (messages.LogicalPlanNode.PROJECTION, messages.ProjectionNode.INPUT))
    (selection,) = children(filtered, messages.LogicalPlanNode.SELECTION)
    assert len(children(selection, messages.SelectionNode.INPUT)) == 1
    (condition,) = children(selection, messages.SelectionNode.EXPR)
    (either,) = children(condition, messages.LogicalExprNode.BINARY)
    assert children(either, binary.OP) == [b"Or"]
    assert [len(children(side, messages.LogicalExprNode.BINARY)) for side in children(either, binary.OPERANDS)] == [
        1,
        1,
    ]


def test_a_dynamic_filter(context: SessionContext) -> None:
    expression, dynamic = messages.PhysicalExprNode, messages.PhysicalDynamicFilterNode
    sql = "SELECT a FROM t ORDER BY a LIMIT 1"
    ids = []
    for _ in range(2):
        plan = context.sql(sql).execution_plan().to_bytes()
        (scan,) = holders(plan, (messages.PhysicalPlanNode.PARQUET_SCAN, messages.ParquetScanExecNode.PREDICATE))
        (inner,) = holders(scan, (dynamic.INNER_EXPR, expression.LITERAL))
        assert inner == uint(messages.ScalarValue.BOOL, 1)
        ids += [field.value for field in fields(scan) if field.number == expression.EXPR_ID]
    assert len(set(ids)) == 2


def test_a_join(context: SessionContext) -> None:
    sql = "SELECT b.a FROM t AS b LEFT JOIN t AS c ON b.a = c.a + 1 AND b.x < c.x"
    plan = context.sql(sql).optimized_logical_plan().to_bytes()
    node, join = messages.LogicalPlanNode, messages.JoinNode

    (found,) = [inner for inner in holders(plan, (node.JOIN,)) if parts(inner, join.LEFT_ON)]
    assert [field.value for field in fields(found) if field.number == join.TYPE] == [1]
    assert [len(children(found, number)) for number in (join.LEFT, join.RIGHT, join.FILTER)] == [1, 1, 1]
    (left,) = children(found, join.LEFT_ON)
    (column,) = children(left, messages.LogicalExprNode.COLUMN)
    (relation,) = children(column, messages.Column.RELATION)
    assert children(relation, messages.ColumnRelation.RELATION) == [b"b"]
    (right,) = children(found, join.RIGHT_ON)
    assert children(right, messages.LogicalExprNode.BINARY)


def test_an_anti_join_that_treats_null_apart(context: SessionContext) -> None:
    plan = context.sql("SELECT a FROM t WHERE x NOT IN (SELECT a FROM t)").optimized_logical_plan().to_bytes()

    joins = [
        {field.number: field.value for field in fields(found)}
        for found in holders(plan, (messages.LogicalPlanNode.JOIN,))
        if parts(found, messages.JoinNode.LEFT_ON)
    ]
    assert [(found[messages.JoinNode.TYPE], found[messages.JoinNode.NULL_AWARE]) for found in joins] == [(5, 1)]


def test_a_window_an_order_and_a_union(context: SessionContext) -> None:
    node = messages.LogicalPlanNode
    window = context.sql("SELECT row_number() OVER (ORDER BY a) FROM t").optimized_logical_plan().to_bytes()
    order = context.sql("SELECT a FROM t ORDER BY a LIMIT 3").optimized_logical_plan().to_bytes()
    union = context.sql("SELECT a FROM t UNION ALL SELECT day FROM t").optimized_logical_plan().to_bytes()

    assert holders(window, (messages.ProjectionNode.INPUT, node.WINDOW, messages.WindowNode.INPUT, node.LISTING_SCAN))
    (found,) = children(order, node.SORT)
    assert [field.value for field in fields(found) if field.number == messages.SortNode.FETCH] == [3]
    assert len(holders(union, (node.UNION, messages.UnionNode.INPUTS))) == 2


def test_statistics_of_a_physical_scan(folder: Path) -> None:
    options = {"table_partition_cols": [("day", pa.int64())], "file_extension": ".parquet"}
    counts = {}
    for collected in ("false", "true"):
        config = SessionConfig().set("datafusion.execution.collect_statistics", collected)
        context = SessionContext(config)
        context.register_listing_table("t", folder, **options)  # type: ignore[arg-type]
        plan = context.sql("SELECT a FROM t").execution_plan().to_bytes()
        (scan,) = children(plan, messages.PhysicalPlanNode.PARQUET_SCAN)
        (conf,) = children(scan, messages.ParquetScanExecNode.BASE_CONF)
        (counts[collected],) = children(conf, messages.FileScanExecConf.STATISTICS)

    (rows,) = children(counts["true"], messages.Statistics.NUM_ROWS)
    assert not [field for field in fields(rows) if field.number == messages.Precision.INFO]  # exact
    absent = [(messages.Precision.INFO, messages.Precision.ABSENT), (messages.Precision.VALUE, b"")]
    statistics = children(counts["false"], messages.Statistics.COLUMN_STATS)
    assert len(statistics) == 4
    for number in (messages.Statistics.NUM_ROWS, messages.Statistics.TOTAL_BYTE_SIZE):
        (value,) = children(counts["false"], number)
        assert [(field.number, field.value) for field in fields(value)] == absent
    for column in statistics:
        assert [field.number for field in fields(column)] == [*messages.ColumnStats.ALL]
