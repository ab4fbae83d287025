"""Tables of text: whole without a width, folded and aligned with one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_cli.screen import Grid, _terminal_columns, consolidation
from dagfusion_client.returned_values import TableInfo

TEXTS = st.none() | st.text(st.characters(codec="utf-8") | st.sampled_from("日本\n\t\x1b[é"), max_size=40)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    count = draw(st.integers(1, 6))
    names = draw(st.lists(st.text("abc日", max_size=12), min_size=count, max_size=count))
    rows = draw(st.lists(st.lists(TEXTS, min_size=count, max_size=count), max_size=5))
    return Grid(names, draw(st.lists(st.booleans(), min_size=count, max_size=count)), list(rows))


@given(grids(), st.none() | st.integers(1, 120), st.booleans())
def test_every_line_is_as_wide_as_the_table(grid: Grid, width: int | None, is_plain: bool) -> None:  # noqa: FBT001
    lines = list(grid.lines(width, is_plain=is_plain))

    assert len({_terminal_columns(line) for line in lines}) == 1
    assert all(line.isprintable() for line in lines)
    least = 7 * len(grid.names) + 1
    assert width is None or _terminal_columns(lines[0]) <= max(width, least)


@given(grids())
def test_nothing_is_lost(grid: Grid) -> None:
    whole = "\n".join(grid.lines())
    folded = "".join("".join(grid.lines(30)).split())

    for cell in (cell for row in grid.rows for cell in row if cell is not None):
        if cell.isprintable():
            assert cell in whole
            if len(grid.names) == 1 and cell.isascii() and len(cell) <= 26:
                assert "".join(cell.split()) in folded


def test_how_it_looks() -> None:
    grid = Grid(["n", "name"], [True, False], [["1", "a\nb"], ["10", None]])

    assert list(grid.lines()) == [
        "┏━━━━┳━━━━━━┓",
        "┃  n ┃ name ┃",
        "┡━━━━╇━━━━━━┩",
        "│  1 │ a    │",
        "│    │ b    │",
        "│ 10 │ NULL │",
        "└────┴──────┘",
    ]
    assert list(Grid(["text"], [False], [["abcdefgh"]]).lines(10, is_plain=True))[3:-1] == ["| abcdef |", "| gh     |"]


@pytest.mark.parametrize(
    ("consolidated", "would_gain", "shown"),
    [
        (0, False, ""),
        (0, True, "no; it would make scans faster"),
        (194, False, "97 %"),
        (50, True, "25 %; the rest would make scans faster"),
    ],
)
def test_the_share_is_shown(consolidated: int, would_gain: bool, shown: str) -> None:  # noqa: FBT001
    info = TableInfo(
        "s.t", ("t",), (), {}, 200, 1, 1, None, None, files=200, consolidated=consolidated, would_gain=would_gain
    )

    assert consolidation(info) == shown
