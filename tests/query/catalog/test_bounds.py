import datetime as dt
import json
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import MalformedRecordError
from dagfusion_query.catalog import segments
from dagfusion_query.catalog.segments import read_bounds, statistics_type

STATS = statistics_type(pa.schema({"n": pa.int32(), "x": pa.float32(), "day": pa.date32(), "t": pa.time64("us")}))
GOOD = {
    "n": {"min": 1, "max": 9, "nulls": 0},
    "x": {"min": -1, "max": 2.5, "nulls": 0},
    "day": {"min": "2024-01-15", "max": "2024-01-16", "nulls": 3},
    "t": {"min": "10:00:00", "max": "23:59:59.999999", "nulls": 0},
}


def texts(*documents: dict[str, Any]) -> list[bytes]:
    return [orjson.dumps(orjson.loads(json.dumps(document))) for document in documents]


def in_python(columns: list[bytes], monkeypatch: pytest.MonkeyPatch) -> pa.StructArray:
    def refuse(*_: object) -> None:
        raise pa.ArrowInvalid("refused")

    with monkeypatch.context() as patched:
        patched.setattr(segments, "_of_json", refuse)
        return read_bounds(STATS, columns)


def test_arrow_reads_the_usual_record() -> None:
    (row,) = segments._of_json(STATS, b"\n".join(texts(GOOD)), 1)[:1]
    assert row.to_pylist() == [GOOD["n"]]


def test_bounds_are_typed_as_their_columns() -> None:
    (row,) = read_bounds(STATS, texts(GOOD)).to_pylist()
    assert row["day"]["max"] == dt.date(2024, 1, 16)
    assert row["t"]["max"] == dt.time(23, 59, 59, 999_999)
    assert row["x"] == {"min": -1.0, "max": 2.5, "nulls": 0}


UNUSUAL: list[dict[str, Any]] = [
    GOOD | {"n": {}},
    {name: given for name, given in GOOD.items() if name != "n"},
    GOOD | {"n": {"min": None, "max": None, "nulls": None}},
    GOOD | {"other": {"min": 1, "max": "x", "nulls": 0}},
    GOOD | {"n": {"min": 1, "max": 2, "nulls": 0, "distinct": [1, {"a": None}]}},
    GOOD | {"x": {"min": 1e300, "max": 10**18, "nulls": 0}},
    GOOD | {"other\n\u2028": None},
]


@pytest.mark.parametrize("document", UNUSUAL)
def test_an_unusual_record_beside_a_usual_one_is_read_as_python_reads_it(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = texts(GOOD, document, GOOD)
    assert read_bounds(STATS, columns).equals(in_python(columns, monkeypatch))


WRONG: list[object] = [True, 1.0, 1.5, "1", [], {}, 1 << 31, -(1 << 31) - 1, 1 << 64]


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_value_is_refused_also_beside_a_right_one(value: object) -> None:
    wrong = GOOD | {"n": {"min": value, "max": 9, "nulls": 0}}
    with pytest.raises(MalformedRecordError, match=r"columns\.n\.min must be null or a value of type int32"):
        read_bounds(STATS, texts(wrong))
    with pytest.raises(MalformedRecordError, match=r"columns\.n\.min"):
        read_bounds(STATS, texts(GOOD, wrong))


@pytest.mark.parametrize("column", [None, [], "x", 1])
def test_what_is_no_object_is_refused(column: object) -> None:
    with pytest.raises(MalformedRecordError, match="must be an object of min, max and nulls"):
        read_bounds(STATS, texts(GOOD | {"n": column}))


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
DAYS = st.dates().map(str)


@given(st.lists(st.fixed_dictionaries({"n": VALUES, "x": VALUES, "day": VALUES | DAYS}), min_size=1, max_size=3))
def test_arrow_and_python_agree(lows: list[dict[str, object]]) -> None:
    documents = [GOOD | {name: {"min": value, "max": None, "nulls": 0} for name, value in low.items()} for low in lows]
    columns = texts(*documents)

    def outcome(read: Any) -> object:
        try:
            return read(STATS, columns)
        except MalformedRecordError:
            return "refused"

    def slowly(stats: pa.StructType, given_columns: list[bytes]) -> pa.StructArray:
        parsed = [orjson.loads(text) for text in given_columns]
        return segments.struct_array(stats, len(parsed), [segments._convert_bounds(field, parsed) for field in stats])

    assert outcome(read_bounds) == outcome(slowly)
