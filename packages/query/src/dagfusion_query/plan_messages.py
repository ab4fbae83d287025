"""DataFusion's serialized plans: every message and field number that this package reads or writes.

They are those of `datafusion.proto` and `datafusion_common.proto` in the version that is pinned, which may change them
in any release. `tests/query/test_plan_messages.py` finds them in plans of the installed version.
"""

from typing import Final

VERSION: Final = "55.0.0"


class LogicalPlanNode:
    """One node of a logical plan; a field for each kind of node."""

    LISTING_SCAN = 1
    PROJECTION = 3
    SELECTION = 4
    LIMIT = 5
    AGGREGATE = 6
    JOIN = 7
    SORT = 8
    WINDOW = 13
    VALUES = 16
    UNION = 19
    SUBQUERY_ALIAS = 21


class ListingTableScanNode:
    """A scan of a table that is files in a folder."""

    PATHS = 2
    PROJECTION = 4
    FILTERS = 6
    TABLE_NAME = 14


class ProjectionColumns:
    """The columns of a scan."""

    COLUMNS = 1


class ProjectionNode:
    """A projection."""

    INPUT, EXPR = 1, 2


class SelectionNode:
    """A filter."""

    INPUT, EXPR = 1, 2


class LimitNode:
    """A limit and an offset."""

    INPUT, SKIP, FETCH = 1, 2, 3


class SortNode:
    """An order of rows, of which there may be a first so many."""

    INPUT, EXPR, FETCH = 1, 2, 3


class JoinNode:
    """A join; the types after `LAST_OUTER` are semi, anti and mark joins."""

    LEFT, RIGHT, TYPE, LEFT_ON, RIGHT_ON, FILTER, NULL_AWARE = 1, 2, 3, 5, 6, 8, 9
    LAST_OUTER = 3


class AggregateNode:
    """An aggregate, with groups or without."""

    INPUT, GROUP_EXPR, AGGR_EXPR = 1, 2, 3


class WindowNode:
    """Window functions over rows."""

    INPUT, EXPR = 1, 2


class UnionNode:
    """The rows of several plans, whose columns are matched by their places."""

    INPUTS = 1


class ValuesNode:
    """Rows of constants."""

    N_COLS, VALUES_LIST = 1, 2


class SubqueryAliasNode:
    """`AS name` of a table or a subquery."""

    INPUT, ALIAS = 1, 3


class TableReference:
    """A table's name, as a field for each number of parts."""

    LEVELS = (1, 2, 3)


class LogicalExprNode:
    """An expression; a field for each kind."""

    COLUMN = 1
    ALIAS = 2
    LITERAL = 3
    BINARY = 4
    NOT = 8
    BETWEEN = 9
    CAST = 11
    IN_LIST = 14
    TRY_CAST = 17
    AGGREGATE_UDF = 19
    GROUPING_SETS = 22
    CUBE = 23
    ROLLUP = 24


class Column:
    """A column's name, and the table's."""

    NAME, RELATION = 1, 2


class ColumnRelation:
    """The table of a column."""

    RELATION = 1


class BinaryExprNode:
    """Operands between which one operator stands."""

    OPERANDS, OP = 1, 3


class NotNode:
    """NOT of a condition."""

    EXPR = 1


class BetweenNode:
    """`expr BETWEEN low AND high`."""

    EXPR, NEGATED, LOW, HIGH = 1, 2, 3, 4


class InListNode:
    """`IN` of a list, or `NOT IN`."""

    EXPR, LIST, NEGATED = 1, 2, 3


class GroupingSetsNode:
    """The expressions of ROLLUP or CUBE, or the lists of expressions of GROUPING SETS; a list has the same field."""

    EXPR = 1


class AliasNode:
    """`AS name` of an expression; the relation has a field for each number of names that it consists of."""

    EXPR, ALIAS, RELATION = 1, 2, 3


class CastNode:
    """A cast."""

    EXPR, ARROW_TYPE = 1, 2


class AggregateUDFExprNode:
    """A call of an aggregate function."""

    FUN_NAME, ARGS, FILTER, ORDER_BY, DISTINCT = 1, 2, 3, 4, 5


class SortExprNode:
    """One expression of an ORDER BY."""

    EXPR, ASC = 1, 2


class ScalarValue:
    """A constant; a field for each type."""

    BOOL = 1
    UTF8, LARGE_UTF8, UTF8_VIEW = 2, 3, 23
    INT8, INT16, INT32, INT64 = 4, 5, 6, 7
    UINT8, UINT16, UINT32, UINT64 = 8, 9, 10, 11
    FLOAT32, FLOAT64 = 12, 13
    DATE32 = 14
    DECIMAL128 = 20
    TIMESTAMP = 26
    BINARY = 28
    NULL = 33


class ScalarTimestampValue:
    """A timestamp; a field for each unit."""

    MICROSECOND, NANOSECOND, SECOND, MILLISECOND, TIMEZONE = 1, 2, 3, 4, 5


class Decimal128:
    """A decimal."""

    VALUE, PRECISION, SCALE = 1, 2, 3


class ArrowType:
    """A type; a field for each."""

    BOOL = 2
    UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64 = 3, 4, 5, 6, 7, 8, 9, 10
    FLOAT32, FLOAT64 = 12, 13
    UTF8, LARGE_UTF8 = 14, 32
    BINARY = 15
    DATE32 = 17
    TIMESTAMP = 20
    DECIMAL32, DECIMAL64, DECIMAL128, DECIMAL256 = 40, 41, 24, 36


class TimestampType:
    """Unit and zone of a timestamp's type."""

    UNIT, TIMEZONE = 1, 2


class TimeUnit:
    """The enum of units."""

    SECOND, MILLISECOND, MICROSECOND, NANOSECOND = 0, 1, 2, 3


class DecimalType:
    """Precision and scale of a decimal's type."""

    PRECISION, SCALE = 3, 4


class PhysicalPlanNode:
    """One node of a physical plan; a field for each kind of node."""

    PARQUET_SCAN = 1
    FILTER = 12
    MERGE = 13  # CoalescePartitionsExecNode
    UNION = 19
    MEMORY_SCAN = 35


class CoalescePartitionsExecNode:
    """One partition of several, of which a limit may take the first rows."""

    INPUT, FETCH = 1, 2


class FilterExecNode:
    """The rows of a plan for which an expression is true; some of their columns."""

    INPUT, PROJECTION = 1, 9


class UnionExecNode:
    """The partitions of several plans."""

    INPUTS = 1


class PhysicalExprNode:
    """An expression of a physical plan."""

    COLUMN = 1
    LITERAL = 2
    EXPR_ID = 30  # a number that the process counts up for each dynamic filter that it plans


class PhysicalColumn:
    """A column by its name and place."""

    NAME, INDEX = 1, 2


class PhysicalDynamicFilterNode:
    """A filter that joins and ORDER BY ... LIMIT complete while they run; before, it is a constant `true`."""

    INNER_EXPR = 4


class ParquetScanExecNode:
    """A scan of Parquet files."""

    BASE_CONF, PREDICATE, PARQUET_OPTIONS = 1, 3, 4


class TableParquetOptions:
    """Options of a Parquet scan."""

    GLOBAL = 1


class ParquetOptions:
    """Those that are the same for all columns; what is off is left out."""

    ENABLE_PAGE_INDEX, PRUNING = 1, 2


class FileScanExecConf:
    """The files and columns of a scan."""

    FILE_GROUPS, SCHEMA, LIMIT, STATISTICS, PARTITION_COLUMNS, OBJECT_STORE_URL = 1, 2, 5, 6, 7, 8
    PROJECTION = 13


class FileSchema:
    """The columns of a scan's table, of which those of the partition are last."""

    FIELDS = 1


class FieldOfSchema:
    """A column."""

    NAME = 1


class ScanProjection:
    """The columns that a scan gives."""

    COLUMNS = 1


class ScanColumn:
    """A column that a scan gives: its name, and the physical expression that it is."""

    NAME, EXPR = 1, 2


class Statistics:
    """Rows and bytes of a scan, and what is known of each column."""

    NUM_ROWS, TOTAL_BYTE_SIZE, COLUMN_STATS = 1, 2, 3


class ColumnStats:
    """The statistics of a column: minimum, maximum, sum, NULLs, distinct values, bytes."""

    ALL = (1, 2, 3, 4, 5, 6)


class Precision:
    """A number or a value that is exact, inexact or absent."""

    INFO, VALUE = 1, 2
    ABSENT = 2


class ScanLimit:
    """The most rows of a scan."""

    LIMIT = 1


class FileGroup:
    """The files that one partition of a scan reads one after another."""

    FILES = 1


class PartitionedFile:
    """One file of a scan."""

    PATH, SIZE, LAST_MODIFIED_NS, PARTITION_VALUES, RANGE = 1, 2, 3, 4, 5


class FileRange:
    """The part of a file in which a row group has to begin to be read."""

    START, END = 1, 2
