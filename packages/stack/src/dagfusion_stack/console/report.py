"""The output of the demo: progress bars on stderr while it works, tables on stdout at the end."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from dagfusion_client.preview import counted
from dagfusion_stack import console
from dagfusion_stack.answers import Answer, AssetReport, Report, SeededAsset

SHOWN_ROWS = 5
PIPED_WIDTH = 140


@contextmanager
def progress() -> Iterator["Bars | Lines"]:
    """Show on stderr how far the demo is: bars on a terminal, else a line when a step begins and one when it ends."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen) as bars:
        yield Bars(bars)


class Bars:
    """A bar for each step so far."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def say(self, line: str) -> None:
        """Show a line above the bars."""
        self._bars.console.print(line, highlight=False, markup=False)

    @contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for a step of `total` parts; it is full at the end."""
        task = self._bars.add_task(title, total=total)
        yield lambda count: self._bars.advance(task, count)
        self._bars.update(task, completed=total)


class Lines:
    """Lines, for a log."""

    def say(self, line: str) -> None:
        """Show a line."""
        console.say(line)

    @contextmanager
    def step(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Report the beginning of a step of `total` parts, and its end."""
        started = time.monotonic()
        console.say(title)
        yield lambda _: None
        console.say(f"  {total:,} of {total:,} in {time.monotonic() - started:.1f} s")


def show(report: Report) -> None:
    """Show every asset, and every query with its answer and what it cost."""
    out = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    out.print(_assets(report.assets))
    for answer in report.answers:
        _show_answer(out, answer)


def show_seeded(assets: Sequence[SeededAsset]) -> None:
    """Show what each asset has, and how much of it is new."""
    out = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    shown = Table(Column("table", overflow="fold"), "partitions", "rows", "size", "written", "time")
    for column in shown.columns[1:]:
        column.justify = "right"
    for asset in assets:
        counts = (f"{asset.partitions:,}", f"{asset.rows:,}", size(asset.bytes), f"{asset.written:,}")
        shown.add_row(asset.table, *counts, f"{asset.seconds:.1f} s")
    out.print(shown)


def _show_answer(out: Console, answer: Answer) -> None:
    report = answer.report
    mark = Text(f"WRONG: {answer.difference}", "bold red") if answer.difference else Text("checked", "green")
    out.print(Text.assemble("\n", (report.name, "bold"), f": {answer.title} (", mark, ")"))
    out.print(Text(report.sql, "cyan"), soft_wrap=True)
    out.print(_rows(answer.columns, answer.rows[:SHOWN_ROWS], report.rows))
    out.print(
        f"{counted(report.rows, 'row')}; {report.files_read:,} of {report.files_total:,} files read, "
        f"{report.files_skipped:,} skipped; {size(report.bytes_read)}; {report.seconds * 1000:,.1f} ms",
        highlight=False,
    )


def _assets(assets: Sequence[AssetReport]) -> Table:
    shown = Table(Column("asset", overflow="fold"), Column("table", overflow="fold"), "partitions", "rows", "size")
    for column in shown.columns[2:]:
        column.justify = "right"
    for asset in assets:
        shown.add_row(asset.key, asset.table, f"{asset.partitions:,}", f"{asset.rows:,}", size(asset.bytes))
    return shown


def _rows(columns: Sequence[str], rows: Sequence[Sequence[object]], total: int) -> Table:
    caption = f"the first {len(rows)} of {total:,}" if total > len(rows) else None
    shown = Table(*columns, caption=caption, caption_justify="left")
    for row in rows:
        shown.add_row(*(Text(str(value)) for value in row))
    return shown


def size(count: float) -> str:
    """Write a number of bytes as a person does: `741 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
