"""The plots of the report."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Times = Mapping[str, Mapping[str, float]]

_MARKERS = "osD^vP*Xhp<>d8"
_OURS = "#d6336c"
_TICKS = {0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s", 100: "100 s"}

mpl.use("agg")


def queries(times: Times, ours: str, file: Path) -> None:
    """Draw time by query and engine, on a log scale.

    Args:
        times: Seconds, by engine and query.
        ours: The engine that stands out.
        file: The PNG to write.
    """
    names = list(dict.fromkeys(query for by_query in times.values() for query in by_query))
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    palette = plt.colormaps["tab20"]
    for number, (engine, by_query) in enumerate(times.items()):
        own = engine == ours
        axes.scatter(
            list(by_query.values()),
            [names.index(query) for query in by_query],
            s=150 if own else 55,
            marker="o" if own else _MARKERS[number % len(_MARKERS)],
            color=_OURS if own else palette(number),
            zorder=3 if own else 2,
            alpha=1 if own else 0.85,
            label=engine,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _TICKS.get(round(value, 6), f"{value:g} s")))
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.25)
    axes.set_xlabel("median time of a warm query")
    figure.legend(loc="outside right upper", fontsize="x-small", frameon=False)
    _save(figure, file)


def planning(times: Mapping[str, Mapping[int, float]], file: Path) -> None:
    """Draw planning time against the number of partitions.

    Args:
        times: Seconds, by statement and number of partitions.
        file: The PNG to write.
    """
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for statement, by_size in times.items():
        sizes = sorted(by_size)
        axes.plot(sizes, [by_size[size] * 1000 for size in sizes], marker="o", label=statement)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
    axes.grid(alpha=0.25, which="both")
    axes.set_xlabel("partitions in the catalog")
    axes.set_ylabel("planning time")
    axes.legend(frameon=False)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)
