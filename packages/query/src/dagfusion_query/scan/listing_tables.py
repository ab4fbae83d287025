"""A table as DataFusion plans over it: partition columns that a listing table can have, and template folders to list.

ListingTable declares its partition columns NOT NULL, and the optimizer believes that: `state IS NULL` becomes false
before any file is looked at. It also looks for their names in folder names, where `größe` or `a b` stand escaped. So a
column with a NULL, or such a name, is scanned as a value and, where it has a NULL, a flag; a view over the scan makes
the column again. Filters on the view's column reach the scan as filters on these, and prune as exactly as any.

A table is registered over an empty folder, the template. While a query is planned, each scan gets a folder of its own
(a slot), so that a table named twice stays two scans, with as many witness files as the scan shall have file groups.
"""

import io
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame, Expr, lit
from datafusion import functions as f

from dagfusion_client.errors import SettingsError
from dagfusion_client.sql_text import quoted
from dagfusion_contract.naming import TableName
from dagfusion_contract.values import EXACT
from dagfusion_query.catalog.model import Table
from dagfusion_query.catalog.partitioned_file import encode_entries

HIDDEN = "$scan"  # an identifier to DataFusion, and never the end of a table's name
_UNESCAPED = re.compile(r"\w+", re.ASCII)  # in the name of a folder
# What a URL of DataFusion has as it is. A URL that differs from DataFusion's would leave a table empty.
_UNQUOTED = "/!$&'()+,:;=@]^|~"
_MANY_ROWS = 1 << 24  # filters leave more of them than a small table has
_GLOB = re.compile(r"[*?\[]")
_TEXTS = ("v", "w")
_BOUNDS = {
    "string": _TEXTS,
    "large_string": _TEXTS,
    "binary": _TEXTS,
    "bool": ("false", "true"),
    "float": ("-inf", "inf"),
    "double": ("-inf", "inf"),
    "date32[day]": ("0001-01-01", "9999-12-31"),
}


@dataclass(frozen=True)
class ScanLayout:
    """The partition columns of a table in its scan.

    Attributes:
        name: The scan's name: the table's own, or a hidden one when a view stands before it.
        nullable: The partition columns that hold a NULL.
        partition_schema: The scan's partition columns.
    """

    name: TableName
    nullable: frozenset[str]
    partition_schema: pa.Schema

    @property
    def is_hidden(self) -> bool:
        """True if a view is over the scan."""
        return self.name.table.endswith(HIDDEN)


def scan_layout(table: Table) -> ScanLayout:
    """Return the layout that fits a table's partition values."""
    columns = zip(table.partition_schema, table.files["partition"].flatten(), strict=True)
    nullable = frozenset(field.name for field, column in columns if column.null_count)
    parts = [_parts(i, field, nullable) for i, field in enumerate(table.partition_schema)]
    if [fields for fields, _ in parts] == [[field] for field in table.partition_schema]:
        return ScanLayout(table.name, nullable, table.partition_schema)
    hidden = TableName(table.name.schema, f"{table.name.table}{HIDDEN}")
    return ScanLayout(hidden, nullable, pa.schema([field for fields, _ in parts for field in fields]))


def scan_files(table: Table, layout: ScanLayout) -> pa.Table:
    """Return a table's catalog, row for row, with partition values and entries as the scan's layout has them.

    The schema is `files_schema` for the partition columns of the layout. In a hidden layout a nullable column is two:
    its values with a placeholder for a null, and a boolean that is true for a null.
    """
    if not layout.is_hidden:
        return table.files
    files = table.files.combine_chunks()
    arrays: list[pa.Array] = []
    for field, column in zip(table.partition_schema, files["partition"].flatten(), strict=True):
        values = column.combine_chunks() if column.num_chunks else pa.array([], field.type)
        if field.name in layout.nullable:
            arrays += [pc.fill_null(values, _placeholder(field.type)), values.is_null()]
        else:
            arrays.append(values)
    partition = pa.StructArray.from_arrays(arrays, fields=list(layout.partition_schema))
    modified_ns = pc.multiply(files["modified"].cast(pa.int64()), 1000).to_pylist()
    entries = encode_entries(files["uri"].to_pylist(), files["size_bytes"].to_pylist(), modified_ns, partition)
    columns = {name: files[name] for name in files.column_names}
    return pa.table(columns | {"partition": partition, "entry": entries})


def view(scan: DataFrame, table: Table, layout: ScanLayout) -> DataFrame:
    """Return a table's own columns, made from those of its scan."""
    file_columns = [_column(name) for name in table.file_schema.names]
    return scan.select(
        *file_columns, *(_parts(i, field, layout.nullable)[1] for i, field in enumerate(table.partition_schema))
    )


class Template:
    """The template folders of one table.

    Args:
        folder: A folder that is this table's alone.
        partition_schema: The partition columns in path order.

    Attributes:
        url: The path of `home` as a logical plan has it.
        prefix: The beginning of the paths of all its folders as a physical plan has them.
    """

    def __init__(self, folder: Path, partition_schema: pa.Schema) -> None:
        self.folder = folder
        self.url = folder_url(f"{self._slot_folder(0, 0)}/").encode()
        self.prefix = f"{folder}/".lstrip("/").encode()
        values = [(f.name, _witness_values(f.type)) for f in partition_schema]
        self._leaves = [Path(*(f"{name}={bounds[end]}" for name, bounds in values)) for end in (0, 1)]
        self._ready: set[Path] = set()

    @property
    def home(self) -> str:
        """The empty folder that the table is registered over, with a slash at its end."""
        return self.path(0, 0)

    def path(self, slot: int, groups: int, *, is_small: bool = False) -> str:
        """Return the folder for a scan in `slot` with `groups` file groups, with a slash at its end.

        The witnesses of a small scan have one row each, those of others many. Their partition values are the least and
        the greatest by turns: DataFusion takes a column for a constant if all files have one value.
        """
        folder = self._slot_folder(slot, groups, is_small=is_small)
        if folder not in self._ready:
            # A missing template would be an empty table: a wrong result, not an error. So it is complete before it is
            # known.
            for leaf in self._leaves:
                (folder / leaf).mkdir(parents=True, exist_ok=True)
            for i in range(groups):
                (folder / self._leaves[i % 2] / f"{i}.parquet").write_bytes(_witness(1 if is_small else _MANY_ROWS))
            self._ready.add(folder)
        return f"{folder}/"

    def _slot_folder(self, slot: int, groups: int, *, is_small: bool = False) -> Path:
        return self.folder / f"s{slot}" / f"{'small' if is_small else 'k'}{groups}"


class Scratch:
    """A temporary folder for the templates of one session, removed with it.

    Raises:
        SettingsError: DataFusion would read the folder's name as a pattern.
    """

    def __init__(self) -> None:
        if _GLOB.search(str(Path(tempfile.gettempdir()).resolve())):
            raise SettingsError(
                f"the folder for temporary files must not have *, ? or [ in its path, got {tempfile.gettempdir()}: set "
                "TMPDIR to another"
            )
        self.path = Path(tempfile.mkdtemp(prefix="dagfusion-")).resolve()
        # Queries of an older generation may hold the session for a while: the folder goes after the last of them.
        self.close = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def template(self, number: int, partition_schema: pa.Schema) -> Template:
        """Return the template of table `number`."""
        return Template(self.path / str(number), partition_schema)


def folder_url(path: str) -> str:
    """Return the URL that DataFusion's logical plan holds for a local folder."""
    return f"file://{quote(path, safe=_UNQUOTED)}"


def _parts(number: int, field: pa.Field, nullable: frozenset[str]) -> tuple[Sequence[pa.Field], Expr]:
    """Return the scan's columns for a partition column, and the expression that makes it of them."""
    value, flag = f"value${number}", f"null${number}"
    if field.name in nullable:
        fields = [pa.field(value, field.type), pa.field(flag, pa.bool_())]
        null = lit(pa.scalar(None, field.type))
        return fields, f.when(_column(flag), null).otherwise(_column(value)).alias(field.name)
    if _UNESCAPED.fullmatch(field.name):
        return [field], _column(field.name)
    return [pa.field(value, field.type)], _column(value).alias(field.name)


def _column(name: str) -> Expr:
    return Expr.column(quoted(name))


def _placeholder(kind: pa.DataType) -> pa.Scalar:
    """Return any value of a type; it is never visible."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return pa.scalar("").cast(kind)
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(0), kind)
    return pa.scalar(0, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)


@cache
def _witness(rows: int) -> bytes:
    """Return a file that is never read but for its footer, which has the number of rows, and no other column."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # as late as the first query

    sink = io.BytesIO()
    pq.write_table(pa.table({"witness": pa.nulls(rows, pa.bool_())}), sink)
    return sink.getvalue()


def _witness_values(kind: pa.DataType) -> tuple[str, str]:
    """Return the least and the greatest value of a type, as folders are named; of texts, any two.

    Timestamps before or after those of nanoseconds are possible in other units. But a cast of one would fail, so these
    are two times to which no statement is likely to compare a column.
    """
    if pa.types.is_timestamp(kind):
        return quote("1678-01-02T03:04:05", safe=""), quote("2262-03-04T05:06:07", safe="")
    if pa.types.is_decimal(kind):
        most = format(Decimal("9" * kind.precision).scaleb(-kind.scale, EXACT), "f")
        return f"-{most}", most
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        most = (1 << (kind.bit_width - signed)) - 1
        return str(-most - 1 if signed else 0), str(most)
    return _BOUNDS[str(kind)]
