"""Which tables would gain from a consolidation, and how much of a table is consolidated."""

from random import Random
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_query.scan import large_objects
from dagfusion_query.scan.large_objects import ConsolidationGain
from tests.query.engine.consolidating import consolidate

NAME = ("t",)


def table(lake: Any) -> Any:
    (made,) = lake.snapshot.tables.values()
    return made


def write(lake: Any, numbers: range, state: str | None = "CA") -> None:
    for number in numbers:
        values = {"state": pa.scalar(state, pa.string()), "n": pa.scalar(number, pa.int64())}
        lake.write(NAME, pa.table({"x": [number, 2 * number]}), values)


@pytest.fixture
def small(lake: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A table of twelve small files, where more than ten are many."""
    monkeypatch.setattr(large_objects, "MANY_FILES", 10)
    lake.with_etags = True
    write(lake, range(12))
    return lake


def test_many_small_files_would_gain_until_they_are_consolidated(small: Any) -> None:
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain(0, would_gain=True)

    consolidate(small, table(small), Random(1))  # noqa: S311
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain(12, would_gain=False)

    write(small, range(12, 22))
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain(12, would_gain=False)
    write(small, range(22, 23))
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain(12, would_gain=True)


def test_what_was_written_again_is_not_consolidated(small: Any) -> None:
    consolidate(small, table(small), Random(1), group_rows=1)  # noqa: S311
    write(small, range(3))

    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain(9, would_gain=False)


def test_large_files_and_those_without_an_etag_would_not_gain(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_objects, "SMALL_OBJECT_BYTES", 10)
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain()

    monkeypatch.undo()
    monkeypatch.setattr(large_objects, "MANY_FILES", 1)
    small.with_etags = False
    write(small, range(11))
    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain()


def test_partitions_that_cannot_be_consolidated_would_not_gain(small: Any) -> None:
    write(small, range(1), None)

    assert large_objects.consolidation_gain(table(small)) == ConsolidationGain()
