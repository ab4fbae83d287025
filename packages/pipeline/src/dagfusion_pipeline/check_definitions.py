"""The checks that the options of `partition_checks` ask for: their names, descriptions and rules."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import dagster as dg

from dagfusion_contract.arrow_types import parse_flat_type
from dagfusion_contract.naming import find_column
from dagfusion_pipeline.check_rules import Bound, InBounds, NotNull, RowCount, Rule, SameColumns, type_name
from dagfusion_pipeline.dimensions import metadata_value
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.event_metadata import COLUMN_SCHEMA_KEY

_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
Range = tuple[Any, Any]


@dataclass(frozen=True)
class Options:
    """The options of `partition_checks`."""

    rows: tuple[int | None, int | None] | None
    not_null: Sequence[str]
    bounds: Mapping[str, tuple[Bound | None, Bound | None]]
    complete: bool
    schema: bool | Literal["names"]
    fresh_within: timedelta | None
    unknown: str


@dataclass(frozen=True)
class Complete:
    """Every partition is materialized."""


@dataclass(frozen=True)
class Fresh:
    """Every partition is materialized within a time after its window ended; without windows, it is at most this old."""

    within: timedelta


@dataclass(frozen=True)
class AlikeColumns:
    """Every partition has the columns of the newest other partition."""

    names_only: bool


@dataclass(frozen=True)
class PlannedCheck:
    """A check: its name, what a person reads of it, and what must hold."""

    name: str
    description: str
    rule: Rule | Complete | Fresh | AlikeColumns


def planned_checks(spec: dg.AssetSpec, options: Options) -> list[PlannedCheck]:
    """Return the checks of an asset.

    Raises:
        ConfigurationError: An option is not usable, or names a column that the declared schema does not have.
    """
    asset, declared = spec.key.to_user_string(), _declared(spec)
    if options.unknown not in ("warn", "fail"):
        raise _wrong(asset, "unknown", "'warn' or 'fail'", options.unknown)
    found = [*_of_columns(asset, options, declared), *_of_partitions(spec, options, declared)]
    if not found:
        raise ConfigurationError(
            f"partition_checks of {asset!r} checks nothing: give rows, not_null, bounds, complete, schema or"
            " fresh_within"
        )
    return _with_own_names(found)


def _of_columns(asset: str, options: Options, declared: dg.TableSchema | None) -> Iterator[PlannedCheck]:
    if options.rows is not None:
        least, most = _range(asset, "rows", options.rows)
        if not all(bound is None or (type(bound) is int and bound >= 0) for bound in (least, most)):
            raise _wrong(asset, "rows", "two numbers of rows, or None", options.rows)
        yield PlannedCheck("row_count", f"Every partition has {_listed((least, most))} rows.", RowCount(least, most))
    for column in options.not_null:
        _check_column(asset, "not_null", column, declared)
        yield PlannedCheck(f"{column}_not_null", f"{column} has no nulls.", NotNull(column))
    for column, bounds in options.bounds.items():
        rule = InBounds(column, *_range(asset, f"bounds of {column!r}", bounds))
        kind = _check_column(asset, "bounds", column, declared)
        if kind is not None:
            try:
                rule.check(kind)
            except ValueError as error:
                raise ConfigurationError(f"bounds of {column!r} in the checks of {asset!r}: {error}") from None
        yield PlannedCheck(f"{column}_in_bounds", f"Every value of {column} is {_listed(bounds)}.", rule)


def _of_partitions(spec: dg.AssetSpec, options: Options, declared: dg.TableSchema | None) -> Iterator[PlannedCheck]:
    asset = spec.key.to_user_string()
    if options.complete:
        yield PlannedCheck("partitions_complete", "Every partition is materialized.", Complete())
    if options.schema not in (True, False, "names"):
        raise _wrong(asset, "schema", "True, False or 'names'", options.schema)
    if options.schema and declared is None:
        description = "Every partition has the columns of the newest other one."
        yield PlannedCheck("column_schema", description, AlikeColumns(options.schema == "names"))
    elif options.schema:
        rule = SameColumns(_expected(asset, declared, names_only=options.schema == "names"))
        yield PlannedCheck("column_schema", "Every partition has the columns that the asset declares.", rule)
    if options.fresh_within is not None:
        if not isinstance(options.fresh_within, timedelta) or options.fresh_within <= timedelta(0):
            raise _wrong(asset, "fresh_within", "a positive timedelta", options.fresh_within)
        description = f"Every partition is materialized within {options.fresh_within}."
        yield PlannedCheck("partitions_fresh", description, Fresh(options.fresh_within))


def _declared(spec: dg.AssetSpec) -> dg.TableSchema | None:
    declared = metadata_value(spec.metadata.get(COLUMN_SCHEMA_KEY))
    return declared if isinstance(declared, dg.TableSchema) else None


def _check_column(asset: str, option: str, column: object, declared: dg.TableSchema | None) -> Any:
    """Return the type that is declared for a column, if one is, and it is one of Arrow's."""
    if not isinstance(column, str) or not column:
        raise _wrong(asset, option, "names of columns", column)
    if declared is None:
        return None
    types = {one.name: one.type for one in declared.columns}
    name = find_column(column, [*types])
    if name is None:
        raise ConfigurationError(
            f"{option} in the checks of {asset!r} names the column {column!r}, and its metadata {COLUMN_SCHEMA_KEY}"
            f" declares {[*types]}: name one of them, or declare the column"
        )
    return parse_flat_type(types[name])


def _expected(asset: str, declared: dg.TableSchema | None, *, names_only: bool) -> dict[str, str | None]:
    columns = declared.columns if declared else []
    if names_only:
        return dict.fromkeys(column.name for column in columns)
    types = {column.name: type_name(column.type) for column in columns}
    if odd := {column.name: column.type for column in columns if types[column.name] is None}:
        raise ConfigurationError(
            f"schema in the checks of {asset!r} compares types as Arrow names them, and {COLUMN_SCHEMA_KEY} declares"
            f" {odd}: write names such as 'int64' or 'timestamp[us]', or set schema='names'"
        )
    return types


def _range(asset: str, what: str, value: object) -> Range:
    requirement = "a pair of the least and the greatest value, of which one may be None"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:  # noqa: PLR2004 - a pair
        raise _wrong(asset, what, requirement, value)
    least, most = value
    if least is None and most is None:
        raise _wrong(asset, what, requirement, value)
    try:
        ordered = least is None or most is None or least <= most
        ordered = ordered and all(bound is None or bound == bound for bound in (least, most))  # noqa: PLR0124 - NaN
    except TypeError:
        ordered = False
    if not ordered:
        raise _wrong(asset, what, "in ascending order", value)
    return least, most


def _listed(values: Sequence[Any]) -> str:
    least, most = values
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"from {least} to {most}"


def _with_own_names(checks: Sequence[PlannedCheck]) -> list[PlannedCheck]:
    """Return the checks with names that Dagster takes; names that become equal are numbered."""
    by_name: dict[str, PlannedCheck] = {}
    for check in checks:
        name = base = _NO_NAME.sub("_", check.name)
        number = 1
        while name in by_name:
            number += 1
            name = f"{base}_{number}"
        by_name[name] = PlannedCheck(name, check.description, check.rule)
    return [*by_name.values()]


def _wrong(asset: str, option: str, requirement: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"{option} in the checks of {asset!r} must be {requirement}; got {value!r}")
