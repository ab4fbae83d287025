"""What is shown of a result: bounded, on one line for each row, and never at the cost of its rows."""

import html
from collections.abc import Iterator, Sequence
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.abstract_connection import Result
from dagfusion_client.errors import ExecutionError, QueryCancelledError
from dagfusion_client.preview import COLUMNS, ROWS, Preview
from dagfusion_client.returned_values import QueryStats

SCHEMA = pa.schema({"n": pa.int64()})


class Scripted(Result):
    """A result whose batches are given; an exception is raised in its turn."""

    def __init__(self, *items: Sequence[int] | BaseException) -> None:
        super().__init__()
        self.schema = SCHEMA
        self._items = iter(items)
        self.reads = 0

    @property
    def stats(self) -> QueryStats:
        return QueryStats(0, 0, 0, 0, 0, 0.0, 1)

    def cancel(self) -> None: ...

    def _next(self) -> pa.RecordBatch | None:
        self.reads += 1
        item = next(self._items, None)
        if isinstance(item, BaseException):
            raise item
        return None if item is None else pa.record_batch([pa.array(item, pa.int64())], schema=SCHEMA)

    def _batches_left(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._pull()) is not None:
            yield batch


@given(st.lists(st.lists(st.integers(0, 99), max_size=15), max_size=6), st.integers(0, 3))
def test_showing_reads_what_it_shows_and_keeps_it(batches: list[list[int]], times: int) -> None:
    result = Scripted(*batches)
    shown = {repr(result) for _ in range(times)}

    first = next((number for number, batch in enumerate(batches, 1) if batch), len(batches) + 1)
    assert result.reads == (first if times else 0)
    assert len(shown) <= 1
    assert result.to_arrow()["n"].to_pylist() == [value for batch in batches for value in batch]


def test_the_end_is_told_where_it_is_known() -> None:
    assert repr(Scripted()).splitlines()[0] == "Result: 1 column; 0 rows"
    assert repr(Scripted([1, 2], [3])) == "Result: 1 column; the first rows:\nn\nint64\n-----\n1\n2"


def test_an_error_is_shown_and_raised_to_whoever_takes_the_rows() -> None:
    result = Scripted([], ExecutionError("divide by zero"))

    assert repr(result).splitlines()[0] == "Result: 1 column; it failed: divide by zero"
    assert "divide by zero" in result._repr_html_()
    assert result.reads == 2
    with pytest.raises(ExecutionError, match="divide by zero"):
        result.to_arrow()


def test_an_interrupted_preview_is_no_empty_result() -> None:
    result = Scripted(KeyboardInterrupt(), [1])
    with pytest.raises(KeyboardInterrupt):
        repr(result)

    with pytest.raises(QueryCancelledError, match="run it again"):
        result.to_arrow()


VALUES: Sequence[tuple[pa.DataType, st.SearchStrategy[object]]] = [
    (pa.string(), st.text(st.characters(codec="utf-8"), max_size=300)),
    (pa.string_view(), st.text(st.characters(codec="utf-8"), max_size=300)),
    (pa.binary(), st.binary(max_size=300)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.float16(), st.floats(width=16)),
    (pa.float64(), st.floats()),
    (pa.decimal128(38, 10), st.decimals(-9, 9, places=10).map(Decimal)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.time64("ns"), st.integers(0, 86_399 * 10**9)),
    (pa.timestamp("s"), st.integers(-(2**63), 2**63 - 1)),
    (pa.timestamp("ns", "Europe/Oslo"), st.integers(-(2**62), 2**62)),
    (pa.duration("us"), st.integers(-(2**63), 2**63 - 1)),
    (pa.month_day_nano_interval(), st.tuples(*[st.integers(-9, 9)] * 3)),
    (pa.null(), st.none()),
    (pa.list_(pa.string()), st.lists(st.none() | st.text("a<&\n", max_size=50), max_size=50)),
    (pa.struct({"a": pa.int64(), "b": pa.list_(pa.int8())}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
    (pa.map_(pa.string(), pa.int64()), st.dictionaries(st.text("ab<"), st.integers(0, 9)).map(lambda d: [*d.items()])),
    (pa.dictionary(pa.int8(), pa.string()), st.text("ab<")),
]


@st.composite
def previews(draw: st.DrawFn) -> Preview:
    columns = draw(st.lists(st.sampled_from(VALUES), max_size=COLUMNS + 3))
    rows = draw(st.integers(0, ROWS + 3))
    names = draw(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=len(columns), max_size=len(columns))
    )
    arrays = [pa.array([draw(st.none() | values) for _ in range(rows)], kind) for kind, values in columns]
    batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(zip(names, [kind for kind, _ in columns], strict=True)))
    return Preview(batch.schema, [batch], is_whole=draw(st.booleans()))


@pytest.mark.usefixtures("heavy")
@given(previews())
def test_every_value_is_shown_in_bounds(preview: Preview) -> None:
    lines = f"{preview.text()}\n".splitlines()  # the last line may be empty
    (batch,) = preview.batches
    rows = min(ROWS, batch.num_rows)

    assert len(lines) == (4 + rows if batch.num_columns else 1)
    assert all(line.isprintable() and len(line) <= COLUMNS * 34 for line in lines[1:])
    document = preview.html()
    assert document.count("<td>") == rows * min(COLUMNS, batch.num_columns)
    bare = document
    for tag in ("div", "p", "table", "thead", "tbody", "tr", "th", "td", "small"):
        bare = bare.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    assert "<" not in bare.replace("<br>", "")
    assert "\n" not in html.unescape(bare)
