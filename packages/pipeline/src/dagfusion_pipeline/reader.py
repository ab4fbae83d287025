"""Objects to tables: read together, verified and decoded, and their columns unified."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dagfusion_contract.naming import find_column
from dagfusion_pipeline.casts import concat_tables
from dagfusion_pipeline.errors import CorruptObjectError, FrameError, MissingObjectError, shortened
from dagfusion_pipeline.parquet import decode
from dagfusion_pipeline.store import ObjectStore, checksum

_PARTITIONS_SHOWN = 10


@dataclass(frozen=True)
class Source:
    """One object to read.

    With a checksum, it must hold exactly the bytes that its materialization recorded. `partition` has the partition
    columns, for files whose footers name none.
    """

    object_key: str
    checksum: str | None = None
    partition: Mapping[str, pa.Scalar] = field(default_factory=dict)


def read_each(
    asset: str,
    sources: Mapping[str | None, Source | None],
    store: ObjectStore,
    concurrency: int,
    *,
    columns: Sequence[str] | None = None,
    allow_missing: bool,
    wiped: Collection[str | None] = (),
) -> dict[str | None, pa.Table]:
    """Return the rows of each of an asset's objects, by partition key, in the order of the keys.

    Args:
        asset: For messages.
        sources: By partition key (None when unpartitioned) the object, or None where none was ever logged, or the
            partition was wiped.
        store: Where from.
        concurrency: Objects read at once.
        columns: Only these, in this order; names may differ in case. All columns when None.
        allow_missing: Leave out objects that are not there, and partitions that were wiped.
        wiped: The partitions that were wiped, for messages.

    Raises:
        MissingObjectError: An object is not there, or a partition was wiped.
        CorruptObjectError: An object does not hold the bytes that were written.
        FrameError: No object has a column that is asked for.
    """
    present = {partition: source for partition, source in sources.items() if source is not None}
    uris = {partition: store.uri(source.object_key) for partition, source in present.items()}
    keys = [source.object_key for source in present.values()]
    contents = dict(zip(present, store.read_many(keys, concurrency), strict=True))
    missing = [partition for partition in sources if contents.get(partition) is None]
    if missing and not allow_missing:
        raise _missing(asset, missing, uris, wiped)
    tables = {}
    for partition, source in present.items():
        content = contents.pop(partition)  # freed as it is decoded
        if content is not None:
            tables[partition] = _decode(asset, content, uris[partition], source, columns)
    if columns is not None and tables:
        _check_columns(asset, columns, tables)
    return tables


def unify(asset: str, tables: Mapping[str | None, pa.Table]) -> pa.Table:
    """Return all rows in one table, in the order of the keys.

    A column that some objects do not have is null in their rows, and one whose type differs gets the wider type.

    Raises:
        FrameError: A column has types that no type holds both of.
    """
    try:
        return concat_tables(list(tables.values())) if tables else pa.table({})
    except pa.ArrowException as error:
        raise _conflict(asset, tables) from error


def _check_columns(asset: str, columns: Sequence[str], tables: Mapping[str | None, pa.Table]) -> None:
    names = list(dict.fromkeys(name for table in tables.values() for name in table.column_names))
    absent = [column for column in columns if find_column(column, names) is None]
    if absent:
        raise FrameError(
            f"asset {asset!r} has no columns {absent}, which the input's metadata columns={list(columns)} names"
        )


def _decode(asset: str, content: Any, uri: str, source: Source, columns: Sequence[str] | None) -> pa.Table:
    expected = source.checksum
    if expected is not None and (found := checksum(content)) != expected:
        raise CorruptObjectError(
            f"{uri} of asset {asset!r} does not hold the bytes that its latest materialization wrote: its checksum is"
            f" {found}, and {expected} was recorded: materialize it again"
        )
    try:
        return decode(content, columns, source.partition)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObjectError(
            f"{uri} of asset {asset!r} is damaged, or not a Parquet file: {error}: materialize it again"
        ) from error


def _conflict(asset: str, tables: Mapping[str | None, pa.Table]) -> FrameError:
    seen: dict[str, dict[pa.DataType, str | None]] = {}
    for partition, table in tables.items():
        for column in table.schema:
            seen.setdefault(column.name, {}).setdefault(column.type, partition)
    conflicts = [
        f"column {name!r} is " + " and ".join(f"{data_type} in {partition!r}" for data_type, partition in types.items())
        for name, types in seen.items()
        if not _unifiable(name, list(types))
    ]
    return FrameError(
        f"partitions of asset {asset!r} do not fit into one frame: {'; '.join(conflicts)}:"
        " materialize them again with one type"
    )


def _unifiable(name: str, types: Sequence[pa.DataType]) -> bool:
    try:
        pa.unify_schemas([pa.schema([(name, data_type)]) for data_type in types], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _missing(
    asset: str, missing: Sequence[str | None], uris: Mapping[str | None, str], wiped: Collection[str | None]
) -> MissingObjectError:
    first = missing[0]
    if first is None:
        if wiped:
            return MissingObjectError(f"the rows of asset {asset!r} are gone, by a tombstone: materialize it again")
        where = f" at {uris[first]}" if first in uris else ""
        return MissingObjectError(f"asset {asset!r} has no object in the store{where}: materialize it first")
    where = f"; the first would be {uris[first]}" if first in uris else ""
    gone = [key for key in missing if key in wiped]
    were_wiped = f"; {len(gone)} of them were wiped: {_shown(gone)}" if gone else ""
    return MissingObjectError(
        f"{len(missing)} partitions of asset {asset!r} are not in the store: {_shown(missing)}{where}{were_wiped}:"
        " materialize them first, or set the metadata allow_missing_partitions=True on the asset or on the input"
    )


def _shown(keys: Sequence[str | None]) -> str:
    return ", ".join(shortened([*map(repr, keys)], _PARTITIONS_SHOWN))
