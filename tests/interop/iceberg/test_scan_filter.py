"""Filters of Iceberg's clients: no file with a matching row is missing, and what is said to be decided is."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from dagfusion_client.errors import BadRequestError
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.iceberg.scan_filter import ScanFilter
from dagfusion_query.catalog.model import layouts_of
from tests.interop.iceberg.planned_lake import DAYS, KINDS, as_json, lake_of
from tests.interop.iceberg.reading import Part, folded, only, publish
from tests.tiers import examples

COLUMNS = {"n": "int32", "text": "string", "x": "double"}
STATES = ["", "A", "AB", "B", "ü", "\U0001f600"]
VALUES: Mapping[str, Sequence[Any]] = {
    "state": STATES,
    "day": DAYS,
    "n": [-5, 0, 1, 7, 2**31 - 1],
    "text": STATES,
    "x": [-1.5, 0.0, -0.0, 2.5, float("nan")],
}
ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda one, other: one == other,
    "lt": lambda one, other: one < other,
    "lt-eq": lambda one, other: one <= other,
    # For engines in which NaN is the greatest number.
    "gt": lambda one, other: one > other or one != one,  # noqa: PLR0124
    "gt-eq": lambda one, other: one >= other or one != one,  # noqa: PLR0124
}
Row = Mapping[str, Any]


def passes(one: Any, row: Row, *, nulls_differ: bool) -> bool | None:
    """Evaluate a filter over a row. NULL differs from each value, or it is unknown whether it does."""
    if isinstance(one, bool):
        return one
    kind = one["type"]
    inner = [passes(one[key], row, nulls_differ=nulls_differ) for key in ("child", "left", "right") if key in one]
    if kind == "not":
        return None if inner[0] is None else not inner[0]
    if inner:
        decisive = kind == "or"
        return decisive if decisive in inner else None if None in inner else not decisive
    return passes_column(kind, one, row[one["term"]], nulls_differ=nulls_differ)


def passes_column(kind: str, one: Row, value: Any, *, nulls_differ: bool) -> bool | None:
    if kind in ("is-null", "not-null"):
        return (value is None) is (kind == "is-null")
    if value is None:
        return True if nulls_differ and kind.startswith("not-") else None
    return (not kind.startswith("not-")) is compares(kind.removeprefix("not-").removeprefix("is-"), value, one)


def compares(kind: str, value: Any, one: Row) -> bool:
    plain = value.isoformat() if isinstance(value, dt.date) else value
    if kind == "nan":
        return bool(value != value)  # noqa: PLR0124
    if kind == "in":
        return plain in one["values"]
    if kind == "starts-with":
        return str(plain).startswith(one["value"])
    if isinstance(plain, str):  # as bytes are ordered
        return ORDERED[kind](plain.encode(), one["value"].encode())
    return ORDERED[kind](plain, one["value"])


@st.composite
def predicates(draw: st.DrawFn) -> dict[str, Any]:
    term = draw(st.sampled_from(sorted(VALUES)))
    literals = st.sampled_from([as_json(v) for v in VALUES[term] if v == v])  # noqa: PLR0124  # JSON has no NaN
    kinds = ["eq", "not-eq", "lt", "lt-eq", "gt", "gt-eq", "in", "not-in", "is-null", "not-null"]
    kinds += {"x": ["is-nan", "not-nan"], "state": ["starts-with", "not-starts-with"]}.get(term, [])
    kinds += ["starts-with", "not-starts-with"] if term == "text" else []
    kind = draw(st.sampled_from(kinds))
    if kind in ("in", "not-in"):
        return {"type": kind, "term": term, "values": draw(st.lists(literals, max_size=3))}
    if kind.endswith(("-null", "-nan")):
        return {"type": kind, "term": term}
    return {"type": kind, "term": term, "value": draw(literals)}


FILTERS = st.recursive(
    st.booleans() | predicates(),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("not"), "child": inner})
        | st.fixed_dictionaries({"type": st.sampled_from(["and", "or"]), "left": inner, "right": inner})
    ),
    max_leaves=5,
)


@st.composite
def lakes(draw: st.DrawFn) -> list[tuple[tuple[Any, Any], list[Row]]]:
    keys = st.tuples(st.none() | st.sampled_from(STATES), st.none() | st.sampled_from(DAYS))
    rows = st.fixed_dictionaries({name: st.none() | st.sampled_from(VALUES[name]) for name in COLUMNS})
    some = st.tuples(keys, st.lists(rows, min_size=1, max_size=3))
    found = draw(st.lists(some, min_size=1, max_size=5, unique_by=lambda one: repr(one[0])))
    return [(key, [{"state": key[0], "day": key[1], **row} for row in some]) for key, some in found]


def stats(rows: Sequence[Row]) -> dict[str, Any]:
    found = {}
    for name in COLUMNS:
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = {"nulls": len(rows) - len(values)}
        # Bounds leave NaN out, and strings are ordered as their bytes.
        numbers = sorted((v for v in values if v == v), key=lambda v: v.encode() if isinstance(v, str) else v)  # noqa: PLR0124
        if numbers:
            found[name] |= {"min": numbers[0], "max": numbers[-1]}
    return found


@pytest.mark.parametrize("known", ["with statistics", "without"])
@hypothesis.given(lake=lakes(), filter_=FILTERS)
@hypothesis.settings(max_examples=examples(100))
def test_no_row_is_missed(lake: list[tuple[tuple[Any, Any], list[Row]]], filter_: Any, known: str) -> None:
    parts = [
        Part([as_json(value) for value in key], COLUMNS, stats(rows) if known == "with statistics" else {}, len(rows))
        for key, rows in lake
    ]
    snapshot = folded(parts, KINDS)
    table = only(snapshot)
    schema = iceberg_schema(table, layouts_of(table, snapshot.asset_states[table.asset_key]))
    matches = ScanFilter(table.files, schema).matches(filter_)
    for (_, rows), may, decided in zip(lake, matches.may, matches.all, strict=True):
        for nulls_differ in (False, True):
            outcomes = [passes(filter_, row, nulls_differ=nulls_differ) for row in rows]
            assert may or True not in outcomes
            assert not decided or set(outcomes) == {True}


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        ("timestamp[s]", "2024-01-05T06:00:00", "2024-01-05T06:00:00"),
        ("timestamp[us]", "2024-01-05T06:00:00", 1_704_434_400_000_000),
        ("timestamp[us, tz=UTC]", "2024-01-05T06:00:00.000000Z", "2024-01-05T07:00:00+01:00"),
        ("decimal128(6, 2)", "1.50", "1.5"),
        ("date32[day]", "2024-01-05", 19_727),
        ("uint64", 2**64 - 1, str(2**64 - 1)),
        ("bool", True, True),
    ],
)
def test_literals(publisher: Publisher, kind: str, value: Any, literal: Any) -> None:
    version = publish(publisher, folded([Part((value,), {"n": "int32"}, {})], {"p": kind}))
    scan_filter = ScanFilter(version.table.files, version.schema)
    equal = scan_filter.matches({"type": "eq", "term": "p", "value": literal})
    assert (equal.may.tolist(), equal.all.tolist()) == ([True], [True])
    other = scan_filter.matches({"type": "not-eq", "term": {"type": "reference", "term": "p"}, "value": literal})
    assert (other.may.tolist(), other.all.tolist()) == ([False], [False])


@pytest.mark.parametrize(
    "filter_",
    [
        {"type": "eq", "term": "n", "value": "five"},
        *({"type": kind, "term": "n", "value": v} for kind in ("eq", "lt", "gt-eq") for v in (1.5, -1.5, 9.5, 10.5)),
        {"type": "in", "term": "n", "values": [20, 20.5]},
        {"type": "eq", "term": "n", "value": 2**70},
        {"type": "starts-with", "term": "n", "value": "1"},
        {"type": "eq", "term": "day", "value": 19723.5},
        {"type": "lt", "term": "day", "value": "2024-01-01T12:00:00"},
        {"type": "eq", "term": "n", "value": True},
        {"type": "eq", "term": "day", "value": "yesterday"},
        {"type": "eq", "term": {"type": "transform", "transform": "bucket[16]", "term": "state"}, "value": 3},
        {"type": "eq", "term": "struct.field", "value": 3},
    ],
)
def test_what_is_not_understood_keeps_all_files(publisher: Publisher, filter_: Any) -> None:
    version = lake_of(publisher)
    for one in (filter_, {"type": "not", "child": filter_}):
        matches = ScanFilter(version.table.files, version.schema).matches(one)
        assert matches.may.all()
        assert not np.any(matches.all)


def deep(levels: int) -> Any:
    filter_: Any = True
    for _ in range(levels):
        filter_ = {"type": "not", "child": filter_}
    return filter_


COMPARED = {"type": "eq", "left": {"type": "reference", "name": "n"}, "right": {"type": "literal", "value": 1}}


def wide(count: int, one: Any = MappingProxyType({"type": "is-null", "term": "n"})) -> Any:
    """A balanced tree of this many predicates, and a few more."""
    level: list[Any] = [one] * count
    while len(level) > 1:
        pairs = zip(level[::2], [*level[1::2], True], strict=False)
        level = [{"type": "or", "left": left, "right": right} for left, right in pairs]
    return level[0]


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ({"type": "like", "term": "state", "value": "C%"}, "unknown type 'like'"),
        ({"type": "and", "left": True}, "unknown type None"),
        ({"type": "in", "term": "state", "values": "CA"}, "needs a list"),
        ({"type": "eq", "term": "none", "value": 1}, "names the column 'none', which the table does not have"),
        ({"type": "eq", "term": "STATE", "value": "CA"}, "names the column 'STATE'"),
        ("state = 'CA'", "unknown type None"),
        (deep(300), "nested 200 deep"),
        (wide(1001), "may have at most 1000 predicates"),
        (wide(1001, COMPARED), "may have at most 1000 predicates"),
        ({"type": ["eq"], "term": "n", "value": 1}, "unknown type None"),
        ({"type": {"a": 1}}, "unknown type None"),
        ({"type": "eq", "term": "n", "value": deep(300)}, "nested 200 deep"),
        ({"type": "in", "term": "n", "values": [deep(300)]}, "nested 200 deep"),
    ],
)
def test_a_wrong_filter_is_refused(publisher: Publisher, filter_: Any, message: str) -> None:
    version = lake_of(publisher)
    with pytest.raises(BadRequestError, match=message):
        ScanFilter(version.table.files, version.schema).matches(filter_)


@pytest.mark.parametrize("one", [{"type": "is-null", "term": "n"}, COMPARED], ids=["older", "newer"])
def test_predicates_of_both_forms_count_as_one(publisher: Publisher, one: Any) -> None:
    version, filter_ = lake_of(publisher), one
    for _ in range(10):
        filter_ = {"type": "or", "left": filter_, "right": filter_}  # 1,024 at the tenth
    filters = ScanFilter(version.table.files, version.schema)
    assert filters.matches(filter_["left"]).may.any() == filters.matches(one).may.any()
    with pytest.raises(BadRequestError, match="at most 1000"):
        filters.matches(filter_)


def test_names_of_any_letter_case(publisher: Publisher) -> None:
    version = lake_of(publisher)
    filter_ = {"type": "eq", "term": "STATE", "value": "CA"}
    matches = ScanFilter(version.table.files, version.schema).matches(filter_, is_case_sensitive=False)
    assert matches.may.tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        ("int32", 1, 1.5),
        ("int32", -1, -1.5),
        ("timestamp[us]", "2024-01-05T06:00:00.000001", "2024-01-05T06:00:00.0000015"),
        ("timestamp[s]", "2024-01-05T06:00:00", "2024-01-05T06:00:00.5"),
        ("timestamp[us, tz=UTC]", "2024-01-05T06:00:00.000000Z", "2024-01-05T06:00:00"),
        ("decimal128(6, 2)", "1.50", "1.505"),
        ("decimal128(6, 2)", "1.50", 1.5),
        ("int64", 1, 2**63),
    ],
)
@pytest.mark.parametrize("operator", ["eq", "lt", "lt-eq", "gt", "gt-eq", "not-eq"])
def test_a_value_that_the_column_cannot_have_decides_nothing(
    publisher: Publisher, kind: str, value: Any, literal: Any, operator: str
) -> None:
    bounds = {"c": {"min": value, "max": value, "nulls": 0}}
    version = publish(publisher, folded([Part((value,), {"c": kind}, bounds)], {"p": kind}))
    for term in "pc":
        matches = version.table_snapshot.filter.matches({"type": operator, "term": term, "value": literal})
        assert (matches.may.tolist(), matches.all.tolist()) == ([True], [False])


def reference(name: str) -> dict[str, Any]:
    return {"type": "reference", "name": name}


def literal(value: Any) -> dict[str, Any]:
    return {"type": "literal", "value": value}


@pytest.mark.parametrize(
    ("filter_", "may"),
    [
        ({"type": "eq", "left": reference("state"), "right": "CA"}, [True] * 3 + [False] * 3),
        ({"type": "eq", "left": reference("state"), "right": literal("NY")}, [False] * 3 + [True] * 3),
        ({"type": "is-null", "child": reference("state")}, [False] * 6),
        ({"type": "in", "child": reference("state"), "values": [literal("CA"), "WY"]}, [True] * 3 + [False] * 3),
        (
            {"type": "not-in", "child": reference("state"), "values": {"type": "literals", "values": ["CA"]}},
            [False] * 3 + [True] * 3,
        ),
        ({"type": "eq", "term": reference("state"), "value": literal("CA")}, [True] * 3 + [False] * 3),
        ({"type": "eq", "left": "state", "right": "CA"}, [True] * 6),  # two literals
        ({"type": "eq", "left": literal("CA"), "right": reference("state")}, [True] * 6),
        ({"type": "eq", "left": reference("state"), "right": reference("state")}, [True] * 6),
        ({"type": "gt", "left": reference("n"), "right": literal(9)}, [False] * 6),
        ({"type": "eq", "left": {"type": "reference", "id": 1}, "right": "CA"}, [True] * 6),
    ],
)
def test_operands_with_types(publisher: Publisher, filter_: Any, may: list[bool]) -> None:
    """The protocol's newer names of the operands; what has an order that is not supported keeps all files."""
    assert lake_of(publisher).table_snapshot.filter.matches(filter_).may.tolist() == may


@pytest.mark.parametrize("kind", ["int8", "int32", "uint8", "uint32"])
@pytest.mark.parametrize(
    ("operator", "literal", "may"),
    [("eq", 2**40, False), ("lt", 2**40, True), ("gt", 2**40, False), ("gt", -1, True), ("not-eq", -1, True)],
)
def test_numbers_beyond_a_narrow_type(
    publisher: Publisher, kind: str, operator: str, literal: int, *, may: bool
) -> None:
    """The column may have become wider since."""
    version = publish(
        publisher, folded([Part((1,), {"c": kind}, {"c": {"min": 1, "max": 1, "nulls": 0}})], {"p": kind})
    )
    for term in "pc":
        matches = version.table_snapshot.filter.matches({"type": operator, "term": term, "value": literal})
        assert matches.may.tolist() == [may]


def test_years_that_python_does_not_have(publisher: Publisher) -> None:
    version = publish(publisher, folded([Part(("2024-01-05T06:00:00",), {"n": "int32"}, {})], {"p": "timestamp[us]"}))
    matches = version.table_snapshot.filter.matches({"type": "lt", "term": "p", "value": 10**18})
    assert (matches.may.tolist(), matches.all.tolist()) == ([True], [True])


@pytest.mark.parametrize("literal", [0.7, "0.7", "NaN", 1e300, 2**53 + 1])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_numbers_that_a_float_column_rounds_decide_nothing(publisher: Publisher, kind: str, literal: Any) -> None:
    low = 0.699999988079071  # 0.7 as a float
    version = publish(publisher, folded([Part((), {"f": kind}, {"f": {"min": low, "max": low, "nulls": 0}})], {}))
    matches = version.table_snapshot.filter.matches({"type": "lt", "term": "f", "value": literal})
    assert matches.may.tolist() == [True]


def test_decimals_of_statistics(publisher: Publisher) -> None:
    bounds = {"d": {"min": "1.00", "max": "2.00", "nulls": 0}}
    version = publish(publisher, folded([Part(("a",), {"d": "decimal128(6, 2)"}, bounds)], {"p": "string"}))
    scan_filter = ScanFilter(version.table.files, version.schema)
    for value, expected in ((Decimal("1.5"), True), (Decimal("2.01"), False)):
        assert scan_filter.matches({"type": "eq", "term": "d", "value": str(value)}).may.tolist() == [expected]
