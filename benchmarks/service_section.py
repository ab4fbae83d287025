"""The section of the report on the query service: its doors, results that are kept, transfers, many clients."""

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import seconds, table

BARE = "HTTP, raw, bare"


def of_service(found: Mapping[str, Any]) -> str:
    """Write the section of what was found of the service; empty if it was not measured."""
    if "service_soak" not in found:
        return ""
    times, rates, soak = found["service_point_s"], found["service_rate_mb_s"], found["service_soak"]
    columns = {"median": times}
    if (beside := found.get("service_point_beside_dagster_s")) is not None:
        columns["beside Dagster's processes"] = beside
    points = table(
        ["point query", *(heading for title in columns for heading in (title, "more than embedded"))],
        [[name, *(seconds(s) for found in columns.values() for s in _and_added(found, name))] for name in times],
    )
    if BARE in times:
        points += (
            f"\n\n`{BARE}` is an HTTP server that passes the statement to a process with the embedded engine, and does"
            " nothing else: no access, admission, limits, cancellation, stats, log or metrics. It shows what HTTP and"
            " a second process add by themselves."
        )
    if (spent := found.get("service_point_processor_s")) is not None:
        points += f"\n\n{_processor_time(spent)}"
    if (alone := found.get("service_driver_alone_s")) is not None:
        adbc, pyarrow = seconds(alone["ADBC"]), seconds(alone["pyarrow"])
        points += (
            "\n\nADBC makes four calls for a statement: prepare, columns, rows, close. With a server that answers at"
            f" once, its driver takes {adbc}, and pyarrow's client {pyarrow} for the same calls. A cursor that runs the"
            " same statement again does not prepare it again."
        )
    if (kept := found.get("service_kept_result_s")) is not None:
        points += f"\n\n{_kept_result(kept)}"
    transfers = table(
        ["a result of 1 GB, eight columns of integers", "MB/s"],
        [[name, f"{rate:,.0f}"] for name, rate in rates.items()],
    )
    answers = ", ".join(f"{count:,} answers {status}" for status, count in soak["answers"].items())
    soaked = (
        f"{soak['clients']} clients at once for {soak['seconds']:.0f} s, each asking again as soon as it is answered:"
        f" {answers} (429 says when to try again); median {soak['p50_ms']:.0f} ms, p99 {soak['p99_ms']:.0f} ms;"
        f" the service's process {soak['rss_first_mb']:.0f} MB at the start and {soak['rss_peak_mb']:.0f} MB at most."
    )
    large = found["service_large_rss_mb"]
    flat = f"It had {large['before']:.0f} MB before the large results and {large['after']:.0f} MB after."
    return f"Clients, doors and workers share the machine's cores.\n\n{points}\n\n{transfers}\n\n{soaked} {flat}"


def _kept_result(times: Mapping[str, float]) -> str:
    """Show what a kept result takes, and how much of that is not the door's."""
    hit_s = times["state, kept"]
    text = (
        f"Over HTTP, raw, `SELECT 1` takes {seconds(times['SELECT 1'])}, and the query `state` {seconds(hit_s)} if its"
        " result is kept."
    )
    if (door_s := times.get("no worker")) is None:
        return text
    return (
        f"{text} A request that needs no worker, `GET /v1/session`, takes {seconds(door_s)} in the same turns, which is"
        f" the door's own time. The kept result takes {seconds(max(0.0, hit_s - door_s))} more."
    )


def _processor_time(spent: Mapping[str, Mapping[str, float]]) -> str:
    """Show what a door's time consists of: its processes wait for each other, so that their times add up."""
    names = ["client", "service", "workers"]
    body = [
        [door, *(seconds(times[name]) for name in names), seconds(sum(times.values()))] for door, times in spent.items()
    ]
    return table(["processor time of a point query", *names, "together"], body)


def _and_added(times: Mapping[str, float], name: str) -> tuple[float, float | None]:
    """Return a door's time, and how much of it is not the embedded engine's."""
    return times[name], None if name == "embedded" else max(0.0, times[name] - times["embedded"])
