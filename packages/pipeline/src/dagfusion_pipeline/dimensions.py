"""Maps the dimensions of Dagster's partitions to columns, and partition keys to values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import repeat
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
from dagster import MultiPartitionKey, PartitionsDefinition, TimeWindowPartitionsDefinition

from dagfusion_contract.layout import HIVE_NULL
from dagfusion_contract.values import is_partition_type
from dagfusion_pipeline.errors import ColumnTypeError, ConfigurationError, PartitionError

# How far apart the looks at a zone's offset are: shorter than the shortest daylight saving time, Morocco's.
_OFFSET_STEP = timedelta(days=14)
_LAST_YEAR = 2037  # the last one for which time zone data lists changes
_TIME_OF_DAY = ("%H", "%I", "%M", "%S", "%f", "%s", "%X", "%c", "%T")


@dataclass(frozen=True)
class Dimension:
    """One dimension of an asset's partitions: its name in Dagster, its column in the table and its definition.

    `is_declared` says that the metadata `partition_expr` names the column, `is_named` that it or the definition does.
    """

    name: str
    column: str
    definition: PartitionsDefinition[str]
    is_declared: bool = False
    is_named: bool = True

    @property
    def default_column(self) -> str:
        """The column's name where nothing names it."""
        return _default_column(self.definition)

    @property
    def default_type(self) -> pa.DataType:
        """The column's type where the frame has no such column."""
        if not isinstance(self.definition, TimeWindowPartitionsDefinition):
            return pa.string()
        if not _tells_hours(self.definition):
            return pa.date32()
        return pa.timestamp("us", "UTC" if _repeats_hours(self.definition) else None)

    def has_windows_of(self, data_type: pa.DataType) -> bool:
        """Return True if many values of the type lie in one partition's window."""
        if not isinstance(self.definition, TimeWindowPartitionsDefinition):
            return False
        if pa.types.is_timestamp(data_type):
            return True
        schedule = self.definition.schedule_type
        is_daily = schedule is not None and schedule.value == "DAILY"
        return bool(pa.types.is_date32(data_type)) and not is_daily and not _tells_hours(self.definition)

    def can_be(self, data_type: pa.DataType, keys: Sequence[str]) -> bool:
        """Return True if values of the type can stand for the dimension's keys: all that are known, and the given."""
        if isinstance(self.definition, TimeWindowPartitionsDefinition):
            kinds = (pa.types.is_date32, pa.types.is_timestamp, pa.types.is_string)
            return any(kind(data_type) for kind in kinds)
        known = (
            self.definition.get_partition_keys() if isinstance(self.definition, dg.StaticPartitionsDefinition) else []
        )
        return pa.types.is_string(data_type) or all(_is_value(key, data_type) for key in (*known, *keys))

    def windows(self, keys: Sequence[str], data_type: pa.DataType, asset: str) -> tuple[pa.Array, pa.Array]:
        """Return the starts and the ends of the keys' windows: two arrays of the given type, one element for each key.

        Raises:
            PartitionError: The type cannot tell a window from the one before, which has the same local time.
        """
        starts = self.values(keys, data_type, asset)
        ends = [_window_end(self.definition, key, data_type) for key in keys]
        return starts, pa.array(ends, data_type)

    def values(self, keys: Sequence[str], data_type: pa.DataType, asset: str) -> pa.Array:
        """Return the values of the column for keys of the dimension: an array of the type, one element for each key.

        Hive's name for null stands for null. A time partition is its window's start, or its key in a string column.

        Raises:
            ColumnTypeError: A column of the type cannot be a partition column.
            PartitionError: A key is not a value of the type.
        """
        if not is_partition_type(data_type):
            raise ColumnTypeError(
                f"partition column {self.column!r} of asset {asset!r} must be string, integer, boolean, decimal, date"
                f" or timestamp; got {data_type}: cast it"
            )
        texts = dict.fromkeys(keys)
        if isinstance(self.definition, TimeWindowPartitionsDefinition) and not pa.types.is_string(data_type):
            value_of = {key: _window_value(self.definition, key, data_type, self.column, asset) for key in texts}
        else:
            value_of = {key: self._parse(key, data_type, asset) for key in texts}
        return pa.array([value_of[key] for key in keys], data_type)

    def _parse(self, key: str, data_type: pa.DataType, asset: str) -> pa.Scalar:
        if key == HIVE_NULL:
            return pa.scalar(None, data_type)
        try:
            return pa.scalar(key).cast(data_type)
        except pa.ArrowException as error:
            raise PartitionError(
                f"partition {key!r} of asset {asset!r} must be a value of column {self.column!r}, whose type is"
                f" {data_type}: cast the column to string, or name another in the metadata partition_expr"
            ) from error


def dimensions(
    definition: PartitionsDefinition[str],
    metadata: Mapping[str, object],
    preferred_order: Sequence[str],
    asset: str,
) -> tuple[Dimension, ...]:
    """Return the dimensions of an asset's partitions, in path order: the declared one, else time last.

    Args:
        definition: The asset's partitions.
        metadata: The asset's; `partition_expr` names the columns, `partition_order` orders the dimensions.
        preferred_order: Dimension names, as far as the asset has them; the asset's own metadata goes before.
        asset: For messages.

    Raises:
        ConfigurationError: The metadata and the partitions do not agree.
    """
    if isinstance(definition, dg.MultiPartitionsDefinition):
        parts = {part.name: part.partitions_def for part in definition.partitions_defs}
        columns = _columns_of_many(parts, metadata_value(metadata.get("partition_expr")), asset)
    else:
        name = _default_column(definition)
        parts, columns = (
            {name: definition},
            {name: _column_of_one(name, metadata_value(metadata.get("partition_expr")), asset)},
        )
    if len(set(columns.values())) < len(columns):
        raise ConfigurationError(
            f"partition_expr of asset {asset!r} must name a column of its own for each dimension; got {columns}"
        )
    order = _order(parts, metadata_value(metadata.get("partition_order")), preferred_order, asset)
    is_single = not isinstance(definition, dg.MultiPartitionsDefinition)
    declared = metadata_value(metadata.get("partition_expr"))
    declared_names = (
        set(parts) if isinstance(declared, str) else set(declared) if isinstance(declared, Mapping) else set()
    )
    return tuple(
        Dimension(name, columns[name], parts[name], name in declared_names, name in declared_names or not is_single)
        for name in order
    )


def dimension_keys(key: str, definition: PartitionsDefinition[str], order: Sequence[Dimension]) -> tuple[str, ...]:
    """Return a partition key's key in each of the dimensions."""
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return (key,)
    multi = key if isinstance(key, MultiPartitionKey) else definition.get_partition_key_from_str(key)
    return tuple(multi.keys_by_dimension[dimension.name] for dimension in order)


def in_definition_order(keys: Sequence[str], definition: PartitionsDefinition[str]) -> list[str]:
    """Return the keys as Dagster orders them: by time, by a static definition's own order, and otherwise as text."""
    if isinstance(definition, dg.MultiPartitionsDefinition):
        parts = sorted(definition.partitions_defs, key=lambda part: part.name)
        stand_ins = [Dimension(part.name, part.name, part.partitions_def) for part in parts]
        split = [dimension_keys(key, definition, stand_ins) for key in keys]
        columns = zip(*split, strict=True) if split else repeat((), len(parts))
        ranks = [_ranks(set(column), part.partitions_def) for column, part in zip(columns, parts, strict=True)]
        ranked = {
            key: tuple(rank[text] for rank, text in zip(ranks, texts, strict=True))
            for key, texts in zip(keys, split, strict=True)
        }
        return sorted(keys, key=lambda key: ranked[key])
    rank = _ranks(set(keys), definition)
    return sorted(keys, key=lambda key: rank[key])


def _ranks(keys: set[str], definition: PartitionsDefinition[str]) -> dict[str, tuple[float, str]]:
    if isinstance(definition, TimeWindowPartitionsDefinition):
        return {key: (definition.time_window_for_partition_key(key).start.timestamp(), key) for key in keys}
    if isinstance(definition, dg.StaticPartitionsDefinition):
        places = {key: place for place, key in enumerate(definition.get_partition_keys())}
        return {key: (places.get(key, len(places)), key) for key in keys}
    return {key: (0, key) for key in keys}


def _columns_of_many(parts: Mapping[str, PartitionsDefinition[str]], expr: object, asset: str) -> dict[str, str]:
    if expr is None:
        return {name: name for name in parts}
    column_of = dict(expr) if isinstance(expr, Mapping) else None
    if (
        column_of is None
        or not set(column_of) <= set(parts)
        or not all(isinstance(name, str) and name for name in column_of.values())
    ):
        raise ConfigurationError(
            f"partition_expr of asset {asset!r} must map its dimensions {sorted(parts)} to column names; got {expr!r}"
        )
    return {name: column_of.get(name, name) for name in parts}


def _column_of_one(default: str, expr: object, asset: str) -> str:
    if expr is None:
        return default
    if isinstance(expr, str) and expr:
        return expr
    raise ConfigurationError(f"partition_expr of asset {asset!r} must be the name of one column; got {expr!r}")


def _default_column(definition: PartitionsDefinition[str]) -> str:
    if not isinstance(definition, TimeWindowPartitionsDefinition):
        return "partition"
    return "hour" if _tells_hours(definition) else "date"


def _order(
    parts: Mapping[str, PartitionsDefinition[str]], declared: object, preferred: Sequence[str], asset: str
) -> list[str]:
    if declared is not None:
        if not isinstance(declared, Sequence) or isinstance(declared, str) or sorted(declared) != sorted(parts):
            raise ConfigurationError(
                f"partition_order of asset {asset!r} must name each of its dimensions {sorted(parts)} once;"
                f" got {declared!r}"
            )
        return list(declared)
    time_last = sorted(parts, key=lambda name: (isinstance(parts[name], TimeWindowPartitionsDefinition), name))
    return sorted(time_last, key=lambda name: preferred.index(name) if name in preferred else len(preferred))


def _tells_hours(definition: TimeWindowPartitionsDefinition) -> bool:
    schedule = definition.schedule_type
    if schedule is not None:
        return bool(schedule.value == "HOURLY")
    return any(directive in definition.fmt for directive in _TIME_OF_DAY)


def _repeats_hours(definition: TimeWindowPartitionsDefinition) -> bool:
    """Return True if the definition has a partition for both hours that the end of daylight saving time makes equal."""
    every_hour = definition.cron_schedule.split()[1] == "*"
    return every_hour and _changes_offset(definition.timezone, definition.start.year)


@cache
def _changes_offset(zone: str, first_year: int) -> bool:
    moment, end = datetime(first_year, 1, 1, tzinfo=ZoneInfo(zone)), datetime(_LAST_YEAR, 12, 31, tzinfo=ZoneInfo(zone))
    first = moment.utcoffset()
    while moment < end:
        moment += _OFFSET_STEP
        if moment.utcoffset() != first:
            return True
    return False


def _is_repeated(definition: TimeWindowPartitionsDefinition, start: datetime) -> bool:
    """Return True if another partition starts at the same local time, an hour earlier."""
    earlier_key = start.replace(fold=0).strftime(definition.fmt)
    earlier = definition.time_window_for_partition_key(earlier_key).start
    same_clock = earlier.replace(tzinfo=None, fold=0) == start.replace(tzinfo=None, fold=0)
    return same_clock and earlier.timestamp() != start.timestamp()


def _is_value(key: str, data_type: pa.DataType) -> bool:
    try:
        pa.scalar(None if key == HIVE_NULL else key, pa.string()).cast(data_type)
    except pa.ArrowException:
        return False
    return True


def _window_end(definition: PartitionsDefinition[str], key: str, data_type: pa.DataType) -> pa.Scalar:
    if not isinstance(definition, TimeWindowPartitionsDefinition):
        raise TypeError(definition)
    window = definition.time_window_for_partition_key(key)
    if pa.types.is_date32(data_type):
        return pa.scalar(window.end.date(), data_type)
    if data_type.tz:
        return pa.scalar(window.end, data_type)
    start, end = window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
    # The local clock is set back within the window: it ends when the clock has run for the window's real time.
    real = timedelta(seconds=window.end.timestamp() - window.start.timestamp())
    return pa.scalar(end if end > start else start + real, data_type)


def _window_value(
    definition: TimeWindowPartitionsDefinition, key: str, data_type: pa.DataType, column: str, asset: str
) -> pa.Scalar:
    start: datetime = definition.time_window_for_partition_key(key).start
    if pa.types.is_date32(data_type):
        return pa.scalar(start.date(), data_type)
    if pa.types.is_timestamp(data_type) and data_type.tz is None and _is_repeated(definition, start):
        raise PartitionError(
            f"partition {key!r} of asset {asset!r} starts at {start}, and column {column!r} of type {data_type} cannot"
            " tell it from the hour before, which has the same local time: give the column the time zone"
            " 'UTC', wipe the asset, and materialize it again"
        )
    if pa.types.is_timestamp(data_type):
        return pa.scalar(start if data_type.tz else start.replace(tzinfo=None), data_type)
    raise ColumnTypeError(
        f"column {column!r} of asset {asset!r} is partitioned by time and must be date, timestamp or string;"
        f" got {data_type}: cast it"
    )


def metadata_value(value: object) -> object:
    """Return a definition's metadata value, whether or not it was given as one of Dagster's."""
    return value.value if isinstance(value, dg.MetadataValue) else value
