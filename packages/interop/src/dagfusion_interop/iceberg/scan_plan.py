"""Plans of scans for clients of the Iceberg REST protocol: the files that a scan needs, as its JSON has them. Pure.

Clients read a plan of many files page by page. The token of a page has everything that the next page needs, so the
service keeps no state of a plan.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import BadRequestError, UnsupportedTypeError
from dagfusion_contract.values import value_entry
from dagfusion_interop.iceberg.iceberg_schema import SPEC_ID, IcebergSchema
from dagfusion_interop.iceberg.scan_filter import ScanFilter, check_filter
from dagfusion_query.catalog.model import Table

PAGE_FILES = 10_000
_PAGE_BYTES = 16 << 20  # of filters in a page, about: each file that is not decided repeats it
_FILTER_BYTES = 1 << 17  # the name of the next page has it, too


@dataclass(frozen=True)
class PlannedScan:
    """A request for a plan, with the number of files in the pages that were sent.

    Attributes:
        filter: The JSON of an expression; None is no filter.
        uses_snapshot_schema: True if the filter names only columns of the snapshot, and not of the current table.
        offset: The number of files in earlier pages.

    Raises:
        BadRequestError: The filter is too long, or nested too deep.
    """

    snapshot_id: int
    filter: Any
    is_case_sensitive: bool = True
    uses_snapshot_schema: bool = False
    offset: int = 0

    def __post_init__(self) -> None:
        check_filter(self.filter)

    def token(self) -> str:
        """Return the name of this page in the protocol."""
        flags = (self.is_case_sensitive, self.uses_snapshot_schema)
        return orjson.dumps([self.snapshot_id, self.filter, *flags, self.offset]).decode()  # as `read_token` reads it


@dataclass(frozen=True)
class TableSnapshot:
    """An Iceberg snapshot of a table, whose scans can be planned.

    Attributes:
        schema: Its columns.
        table: The table as it was.
    """

    snapshot_id: int
    schema: IcebergSchema
    table: Table

    @cached_property
    def filter(self) -> ScanFilter:
        """Evaluates filters of scans over its files."""
        return ScanFilter(self.table.files, self.schema)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """The rows of its files in `Table.files` (int64), in an order that is the same in all services."""
        return np.asarray(pc.sort_indices(self.table.files["uri"]), np.int64)


def read_token(token: object) -> PlannedScan:
    """Decode `PlannedScan.token`.

    Raises:
        BadRequestError: The value is not such a token.
    """
    try:
        snapshot_id, filter_, is_case_sensitive, uses_snapshot_schema, offset = orjson.loads(
            token if isinstance(token, str) else ""
        )
    except (ValueError, TypeError) as error:
        raise BadRequestError("`plan-task` is not one that this catalog gave") from error
    kinds = [type(one) for one in (snapshot_id, is_case_sensitive, uses_snapshot_schema, offset)]
    if kinds != [int, bool, bool, int] or offset < 0:
        raise BadRequestError("`plan-task` is not one that this catalog gave")
    return PlannedScan(snapshot_id, filter_, is_case_sensitive, uses_snapshot_schema, offset)


def scan_tasks(
    scan: PlannedScan, snapshot: TableSnapshot, *, others: Collection[str] = (), has_numbers: bool
) -> dict[str, Any]:
    """Return one page of a plan: the files that may have rows of the scan, each with the filter left to apply.

    Args:
        scan: The page.
        snapshot: The scan's snapshot.
        others: Columns that the filter may name beside those of the snapshot.
        has_numbers: Whether dates and times of partitions are numbers, as in Iceberg's binary form, instead of text.

    Raises:
        BadRequestError: The filter does not follow the protocol.
        UnsupportedTypeError: The client could not read the partition values.
    """
    size_bytes = len(orjson.dumps(scan.filter))
    if size_bytes > _FILTER_BYTES:
        raise BadRequestError(f"a filter may have at most {_FILTER_BYTES} bytes, got {size_bytes}")
    files = snapshot.table.files
    found = snapshot.filter.matches(scan.filter, is_case_sensitive=scan.is_case_sensitive, others=others)
    numbers = snapshot.order[found.may[snapshot.order]]
    page = numbers[scan.offset : scan.offset + min(PAGE_FILES, _PAGE_BYTES // size_bytes)]
    some = files.select(["uri", "size_bytes", "rows", "partition"]).take(pa.array(page))
    partition = _partition_values(some["partition"].combine_chunks(), snapshot.schema, has_numbers=has_numbers)
    columns = [some[name].to_pylist() for name in ("uri", "size_bytes", "rows")]
    tasks = [
        {
            "data-file": {
                "spec-id": SPEC_ID,
                "content": "data",
                "file-path": uri,
                "file-format": "parquet",
                "partition": values,
                "file-size-in-bytes": size,
                "record-count": rows,
            },
            "residual-filter": True if is_decided else scan.filter,
        }
        for uri, size, rows, values, is_decided in zip(*columns, partition, found.all[page].tolist(), strict=True)
    ]
    after = scan.offset + len(page)
    rest = replace(scan, offset=after)
    more: Mapping[str, Any] = {"plan-tasks": [rest.token()]} if after < len(numbers) else {}
    return {"file-scan-tasks": orjson.Fragment(orjson.dumps(tasks)), **more}


def _partition_values(partition: pa.StructArray, schema: IcebergSchema, *, has_numbers: bool) -> list[list[Any]]:
    columns = []
    for column in schema.partition:
        values = pc.struct_field(partition, [partition.type.get_field_index(column.name)])
        if has_numbers and (values.null_count or column.kind.startswith("decimal")):
            raise UnsupportedTypeError(
                f"the client does not read partition values of plans that are NULL or decimals, such as those of column"
                f" {column.name!r}: leave planning to the client (scan-planning-mode=client)"
            )
        columns.append(_as_json(values, column.kind, has_numbers=has_numbers))
    return [list(values) for values in zip(*columns, strict=True)] if columns else [[] for _ in range(len(partition))]


def _as_json(values: pa.Array, kind: str, *, has_numbers: bool) -> list[Any]:
    """Return values as the protocol's JSON has them; equal ones are converted once."""
    encoded = values.dictionary_encode()
    wanted: pa.Array = encoded.dictionary
    if kind.startswith("timestamp"):
        wanted = wanted.cast(pa.timestamp("us", wanted.type.tz))
    if kind == "date" and has_numbers:
        texts = wanted.cast(pa.int32()).to_pylist()
    elif kind.startswith("timestamp") and has_numbers:
        texts = wanted.cast(pa.int64()).to_pylist()
    else:
        texts = [_text(value, kind) for value in wanted]
    return [None if index is None else texts[index] for index in encoded.indices.to_pylist()]


def _text(value: pa.Scalar, kind: str) -> Any:
    try:
        entry = value_entry(value)
    except ValueError as error:
        raise UnsupportedTypeError(
            f"partition value {value} cannot be represented in an Iceberg plan: {error}"
        ) from error
    if kind == "timestamptz":
        return f"{str(entry).removesuffix('Z')}+00:00"
    return str(entry) if kind.startswith("decimal") else entry
