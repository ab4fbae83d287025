"""Which files of a table can hold rows that a query wants: its filters run over the catalog, in DataFusion itself.

So pruning means exactly what the filter means: casts, functions, NULLs and time zones included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from datafusion import DataFrame, Expr, SessionConfig, SessionContext
from datafusion.catalog import Schema

from dagfusion_query.scan.layout import ScanLayout
from dagfusion_query.scan.predicate import MAX, MIN, NULLS, ROWS, is_over, may_match

_FILE = "\x1ffile"  # the number of a file in the table's catalog


@dataclass(frozen=True)
class Pruned:
    """The outcome for one scan.

    Attributes:
        files: The numbers of the files that are kept, ascending: rows of the catalog. None keeps them all.
        decided: For each filter, whether the catalog decided it, so that no row of a kept file can fail it.
    """

    files: pa.Array | None
    decided: Sequence[bool]


class Pruner:
    """The catalog of one table as something that filters can run over.

    Args:
        layout: The scan's name and partition columns.
        files: The catalog of one generation in that layout.

    Attributes:
        partition: The partition columns.
        statistics: The columns with statistics and their numbers, as `predicate` wants them.
    """

    def __init__(self, layout: ScanLayout, files: pa.Table) -> None:
        self._name, self._files = layout.name, files
        self.partition = frozenset(layout.partition_schema.names)
        stats = files.schema.field("stats").type
        self.statistics = {stats.field(i).name: i for i in range(stats.num_fields)}
        self._frames: dict[str, DataFrame] = {}

    def prune(self, filters: Sequence[Expr], relation: str) -> Pruned:
        """Find the files that can hold rows for which all `filters` are true.

        Args:
            filters: The filters of one scan.
            relation: The table as the query spells it, quoted where needed; the filters' columns carry it.
        """
        decided = [is_over(expr, self.partition) for expr in filters]
        predicates = [may_match(expr, self.partition, self.statistics) for expr in filters]
        known = [predicate for predicate in predicates if predicate is not None]
        if not known:
            return Pruned(None, decided)
        frame = self.frame(relation)
        for predicate in known:
            frame = frame.filter(predicate)
        batches = frame.select(Expr.column(_FILE)).collect()
        return Pruned(pa.concat_arrays([pa.array([], pa.int64()), *(batch.column(0) for batch in batches)]), decided)

    def frame(self, relation: str) -> DataFrame:
        """Return the catalog as a table, under the name that the filters' columns carry."""
        if relation not in self._frames:
            self._frames[relation] = self._context.table(relation)
        return self._frames[relation]

    @cached_property
    def _context(self) -> SessionContext:
        # One partition: a second one costs more to plan than it saves, up to about a million files.
        context = SessionContext(SessionConfig().with_target_partitions(1))
        schema = Schema.memory_schema()
        context.catalog().register_schema(self._name.schema, schema)
        batches = _pruning_table(self._files).to_batches()
        context.register_record_batches("files", [batches])
        schema.register_table(self._name.table, context.table_provider("files"))
        return context


def _pruning_table(files: pa.Table) -> pa.Table:
    """Lay the partition values and statistics of a table's files out as flat columns, without copying them."""
    columns = {_FILE: pa.array(range(len(files)), pa.int64()), ROWS: files["rows"]}
    columns |= _children(files["partition"])
    for number, stats in enumerate(_children(files["stats"]).values()):
        of = _children(stats)
        columns |= {f"{NULLS}{number}": of["nulls"], f"{MIN}{number}": of["min"], f"{MAX}{number}": of["max"]}
    return pa.table(columns)


def _children(column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return the fields of a struct column by name; a null struct has null fields."""
    return dict(zip((field.name for field in column.type), column.flatten(), strict=True))
