"""Rows as a table of text with lines around it, folded to a width. Pure."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

_BOX = ("┏━┳┓", "┃", "┡━╇┩", "│", "└─┴┘")
_PLAIN_BOX = ("+-++", "|", "+-++", "|", "+-++")  # where the terminal knows no other signs
_LEAST = 4  # columns are not folded to less, whatever the width

Style = Callable[[str], str]


@dataclass
class Grid:
    """A table.

    Attributes:
        names: Of the columns.
        right: Which columns stand to the right.
        rows: Texts by column; None is NULL.
    """

    names: Sequence[str]
    right: Sequence[bool]
    rows: list[Sequence[str | None]] = field(default_factory=list)

    def lines(
        self, width: int | None = None, *, is_plain: bool = False, null: Style = str, head: Style = str
    ) -> Iterator[str]:
        """Yield the table, line by line.

        Args:
            width: Of the terminal; a table that is wider is folded. None folds nothing.
            is_plain: Whether only ASCII can be shown around the texts.
            null: Marks up what stands for NULL.
            head: Marks up names of columns.
        """
        top, head_bar, middle, bar, bottom = _PLAIN_BOX if is_plain else _BOX
        cells = [[_lines("NULL" if cell is None else cell) for cell in row] for row in self.rows]
        names = [_lines(name) for name in self.names]
        widths = _fitting(_widths([names, *cells], len(names)), width)
        yield _rule(top, widths)
        yield from self._row(names, widths, head_bar, [head] * len(names))
        yield _rule(middle, widths)
        for row, texts in zip(self.rows, cells, strict=True):
            yield from self._row(texts, widths, bar, [null if cell is None else str for cell in row])
        yield _rule(bottom, widths)

    def _row(
        self, cells: Sequence[Sequence[str]], widths: Sequence[int], bar: str, styles: Sequence[Style]
    ) -> Iterator[str]:
        folded = [
            [piece for line in cell for piece in _folded(line, width)]
            for cell, width in zip(cells, widths, strict=True)
        ]
        for pieces in zip_longest(*folded, fillvalue=""):
            texts = []
            for piece, width, right, style in zip(pieces, widths, self.right, styles, strict=True):
                room = " " * (width - _columns(piece))
                shown = style(piece) if piece else piece
                texts.append(f" {room}{shown} " if right else f" {shown}{room} ")
            yield f"{bar}{bar.join(texts)}{bar}"


def _rule(signs: Sequence[str], widths: Sequence[int]) -> str:
    left, line, cross, right = signs
    return f"{left}{cross.join(line * (width + 2) for width in widths)}{right}"


def _lines(text: str) -> list[str]:
    """Return a text's lines, with what a terminal would obey written out."""
    return [
        "".join(char if char.isprintable() else repr(char)[1:-1] for char in line.expandtabs(4))
        for line in text.split("\n")
    ]


def _widths(rows: Sequence[Sequence[Sequence[str]]], count: int) -> list[int]:
    return [max(_columns(line) for row in rows for line in row[number]) for number in range(count)]


def _fitting(widths: Sequence[int], room: int | None) -> list[int]:
    """Make the widest columns narrower until all fit, as far as that goes."""
    if room is None or not widths:
        return list(widths)
    room -= 3 * len(widths) + 1
    most = max(widths)
    while most > _LEAST and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _folded(line: str, width: int) -> Iterator[str]:
    start = taken = 0
    for at, char in enumerate(line):
        if taken + (own := _columns(char)) > width:
            yield line[start:at]
            start, taken = at, 0
        taken += own
    yield line[start:]


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_sign(char) for char in text)


def _sign(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
