"""Loads inputs: converts the tables of the partitions to the type of the annotation."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline.dimensions import metadata_value
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.frames import InputType
from dagfusion_pipeline.reader import unify

COLUMNS_KEY = "columns"


def annotation_of(context: dg.InputContext) -> object:
    """Return the input's annotation; Any where it has none."""
    return Any if context.dagster_type.is_any else context.dagster_type.typing_type


def columns_of(metadata: Mapping[str, object], asset: str) -> list[str] | None:
    """Return the only columns that an input reads, by its metadata `columns`; None for all of them.

    Raises:
        ConfigurationError: The metadata is no list of names.
    """
    columns = metadata_value(metadata.get(COLUMNS_KEY))
    if columns is None:
        return None
    if (
        isinstance(columns, Sequence)
        and not isinstance(columns, str)
        and all(isinstance(name, str) for name in columns)
    ):
        return list(columns)
    raise ConfigurationError(
        f"the metadata columns of an input that loads asset {asset!r} must be a list of column names; got {columns!r}"
    )


def as_requested(
    tables: Mapping[str | None, pa.Table], requested: InputType, asset: str, partition_keys: Sequence[str | None]
) -> object:
    """Return the tables as an input's annotation asks for them.

    Args:
        tables: By partition key, those that are there.
        requested: By the annotation.
        asset: For messages.
        partition_keys: All that the input selects.

    Raises:
        FrameError: A column has types that no type holds both of.
    """
    convert = requested.frame_type.from_arrow
    if requested.by_partition:
        keys = [key for key in partition_keys if requested.optional or key in tables]
        return {key: convert(tables[key]) if key in tables else None for key in keys}
    if requested.optional and not tables:
        return None
    return convert(unify(asset, tables))
