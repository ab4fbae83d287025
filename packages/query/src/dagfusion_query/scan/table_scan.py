"""A table as the scan sees it, and one scan of it: the files that are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import Expr

from dagfusion_client.returned_values import FilterEffect, ScanExplanation
from dagfusion_contract.uri import LOCAL_FILES, store_url
from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.replacing_row_groups import Flags
from dagfusion_query.scan.archived_files import Archive, LeftOut
from dagfusion_query.scan.large_objects import FOOTER_REQUESTS, LargeObjects, LargeRead
from dagfusion_query.scan.listing_tables import ScanLayout, Template, scan_files
from dagfusion_query.scan.prune import Pruner
from dagfusion_query.scan.row_filter import RowFilter, is_for_rows, row_filter

MANY = 256  # files from which a scan that may not need all of them reads the objects in place
FEW = 64  # files of a scan that are taken out of the catalog one by one


def scan_store(environment: str, url: str) -> str:
    """Return the name of an environment's store inside of plans.

    Two environments may have buckets of the same name at different endpoints, and one query may read both. DataFusion
    tells stores apart by scheme and host, so the environment is in the scheme: `prod-eu+s3://bucket/`.
    """
    if not environment or url == LOCAL_FILES:
        return url
    return f"{environment.replace('_', '-')}+{url}"


@dataclass(frozen=True)
class ScannedTable:
    """A table as the scan knows it: its catalog, its partition columns' layout and its template folders.

    Attributes:
        table: The table, with the files that can be read.
        archive: Files that are left out, which have the same layout.
    """

    table: Table
    layout: ScanLayout
    template: Template
    archive: Archive | None = None

    @cached_property
    def files(self) -> pa.Table:
        """The catalog, row for row, in the scan's layout."""
        return scan_files(self.table, self.layout)

    @cached_property
    def pruner(self) -> Pruner:
        """Evaluates filters over the files of the table."""
        return Pruner(self.layout, self.files)

    @cached_property
    def _archive_pruner(self) -> Pruner | None:
        return None if self.archive is None else Pruner(self.layout, scan_files(self.archive.table, self.layout))

    def left_out(self, filters: Sequence[Expr], relation: str) -> LeftOut | None:
        """Return the files with rows that these filters may keep and that are left out; None if there are none."""
        if self.archive is None or self._archive_pruner is None:
            return None
        files = self._archive_pruner.prune(filters, relation).files
        keys = self.archive.table.files["partition_key"]
        keys = keys if files is None else keys.take(files)
        if not len(keys):
            return None
        return LeftOut(self.table.name, keys, self.archive.rule)

    @cached_property
    def store(self) -> str | None:
        """The URL of the store that holds every file, as a scan names it; None when there are several."""
        uris = self.table.files["uri"]
        if not len(uris):
            return None
        store = store_url(uris[0].as_py())
        same = pc.all(pc.starts_with(uris, store)).as_py()
        return scan_store(self.table.environment, store) if same else None

    @cached_property
    def large(self) -> LargeObjects | None:
        """The row groups that stand for files; None for a table that is always read from its files.

        Where a view stands before the scan, its columns are not those of a large object.
        """
        if self.layout.is_hidden or self.store is None or not len(self.table.consolidated):
            return None
        return LargeObjects(self.table)

    def with_large(self, scan: "Scan", *, filtered: bool = True) -> "Scan":
        """Return a scan that reads large objects where that takes fewer requests.

        Args:
            scan: A scan of this table.
            filtered: Whether a row group may be read that also holds rows of files that the scan drops.
        """
        scan = replace(scan, large=None, row_filter=None)
        # Which row group replaces which file is found once for each generation. A query of one partition need not wait.
        if scan.count <= FOOTER_REQUESTS or self.large is None:
            return scan
        read = self.large.read(scan.files, self._dropped(scan) if filtered else None)
        if read is None or not len(read.others):
            return replace(scan, large=read)
        decided = [applied for applied in scan.filters if applied.decided]
        exprs, relation = [applied.expr for applied in decided], decided[0].relation
        kept_rows = row_filter(exprs, relation, self.layout, self.files, read)
        if kept_rows is None:
            return self.with_large(scan, filtered=False)
        return replace(scan, large=read, row_filter=kept_rows)

    def _dropped(self, scan: "Scan") -> Flags | None:
        """Return which files the scan's filters of partition columns drop; None if rows are not filtered by them."""
        decided = [applied for applied in scan.filters if applied.decided]
        exprs = [applied.expr for applied in decided]
        if scan.files is None or not decided or not is_for_rows(exprs):
            return None
        kept = scan.files
        if len(decided) < len(scan.filters):
            kept = self.pruner.prune(exprs, decided[0].relation).files
        dropped = np.ones(len(self.table.files), np.bool_)
        dropped[np.asarray(kept)] = False
        dropped[np.asarray(scan.files)] = False
        return dropped


@dataclass(frozen=True)
class Filter:
    """A filter of a scan.

    Attributes:
        expr: The filter.
        relation: The table as the query spells it.
        decided: The catalog decided it: no row of a kept file can fail it.
        pruner: What it was decided with.
    """

    expr: Expr
    relation: str
    decided: bool
    pruner: Pruner

    @property
    def text(self) -> str:
        """The filter as DataFusion writes it."""
        return str(self.expr.canonical_name())

    def effect(self, total: int) -> FilterEffect:
        """Return how many of a table's files this filter skips by itself, and how."""
        files = self.pruner.prune([self.expr], self.relation).files
        by = "partition values" if self.decided else "nothing" if files is None else "statistics"
        return FilterEffect(self.text, 0 if files is None else total - len(files), by)


@dataclass(frozen=True)
class Scan:
    """One mention of a table in a planned query.

    Attributes:
        table: The table.
        files: int64 without nulls, ascending: the files that it reads, as rows of `Table.files`; None for all of them.
        filters: What it is filtered by.
        answered: The catalog answered the aggregate above it, so it reads no file.
        large: What it reads of large objects instead of files.
        row_filter: Keeps the rows of its files in large objects that also hold rows of others; None if none does.
        is_large: Whether its table's files are large objects.
        left_out: Files beside those of `table` that it may need and does not read.
    """

    table: Table
    files: pa.Array | None
    filters: Sequence[Filter]
    answered: bool = False
    large: LargeRead | None = None
    row_filter: RowFilter | None = None
    is_large: bool = False
    left_out: LeftOut | None = None

    @property
    def parts(self) -> "Sequence[Scan]":
        """Its parts: the scan itself, or a scan of the files that are left and one of the large objects."""
        if self.large is None:
            return [self] if self.count else []
        rest = replace(self, files=self.large.rest, large=None, row_filter=None)
        large = Scan(self.large.table, None, self.filters, row_filter=self.row_filter, is_large=True)
        return [*rest.parts, large]

    @property
    def count(self) -> int:
        """The number of files that are read."""
        return len(self.table.files) if self.files is None else len(self.files)

    @property
    def most_opened(self) -> int:
        """The number of files and parts of large objects in its plan."""
        return self.count if self.large is None else len(self.large.rest) + len(self.large.entries)

    @property
    def objects(self) -> Sequence[str]:
        """For each file that is kept, the URI of the object that its rows are read from."""
        uris: list[str] = self.kept["uri"].to_pylist()
        if self.large is None:
            return uris
        names = self.large.table.files["uri"].to_pylist()
        holder_of = dict(zip(self.large.files.to_pylist(), self.large.holders.tolist(), strict=True))
        numbers = range(self.count) if self.files is None else self.files.to_pylist()
        return [
            names[holder_of[number]] if number in holder_of else uri for number, uri in zip(numbers, uris, strict=True)
        ]

    @property
    def sizes(self) -> pa.ChunkedArray:
        """The size of each file that is read."""
        return self.of(self.table.files.select(["size_bytes"]))["size_bytes"]

    @cached_property
    def bytes(self) -> int:
        """The size of the files that are read together."""
        return int(pc.sum(self.sizes).as_py() or 0)

    @property
    def explanation(self) -> ScanExplanation:
        """The files that are read of the table, and the effect of each filter."""
        kept, files = self.kept, self.table.files
        return ScanExplanation(
            str(self.table.name),
            len(files),
            len(kept),
            int(pc.sum(files["size_bytes"]).as_py() or 0),
            self.bytes,
            kept["partition_key"].to_pylist(),
            self.objects,
            [applied.effect(len(files)) for applied in self.filters],
            0 if self.large is None else len(self.large.files),
            [] if self.large is None else self.large.table.files["uri"].to_pylist(),
            self.files_left_out,
        )

    @property
    def files_left_out(self) -> int:
        """The number of files that it may need and does not read."""
        return 0 if self.left_out is None else self.left_out.files

    @property
    def rows(self) -> int:
        """The rows of the files that are read."""
        return int(pc.sum(self.of(self.table.files.select(["rows"]))["rows"]).as_py() or 0)

    @property
    def kept(self) -> pa.Table:
        """The rows of `Table.files` that are read."""
        return self.of(self.table.files)

    def of(self, files: pa.Table) -> pa.Table:
        """Return the rows of the files that are read.

        Args:
            files: A table with one row for each row of `Table.files`, such as some of its columns.
        """
        if self.files is None or len(self.files) > FEW:
            return files if self.files is None else files.take(self.files)
        # `take` first joins the chunks of a large catalog; a few rows are there without.
        rows = [files.slice(number, 1) for number in self.files.to_pylist()]
        return pa.concat_tables([files.slice(0, 0), *rows])


def prune_scan(table: ScannedTable, filters: Sequence[Expr], relation: str) -> Scan:
    """Find what a scan with these filters reads; `relation` is the table as the query spells it."""
    pruned = table.pruner.prune(filters, relation)
    decided = zip(filters, pruned.decided, strict=True)
    applied = [Filter(expr, relation, exact, table.pruner) for expr, exact in decided]
    return Scan(table.table, pruned.files, applied, left_out=table.left_out(filters, relation))
