"""The report of a run: pytest-benchmark's JSON to Markdown tables and plots.

python -m benchmarks.report benchmarks/report/benchmark.json      writes report.md and the plots beside it
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines.dagfusion import CONSOLIDATED_ENGINE, ENGINE, NO_COPIES, NOTHING_KEPT
from benchmarks.engines.iceberg import LISTERS
from benchmarks.engines.registry import ENGINES
from benchmarks.iceberg_section import through_iceberg
from benchmarks.service_section import of_service
from benchmarks.tables import seconds, table
from benchmarks.wire import GET, HEAD, LIST, RANGED_GET
from benchmarks.workload import QUERIES

OURS, CONSOLIDATED = ENGINE.name, CONSOLIDATED_ENGINE.name
_FASTEST = 3
_START = {"cold": "start of a session", "warm": "statement without objects"}
_REQUESTS = {LIST: "LIST", HEAD: "HEAD", RANGED_GET: "GET", GET: "GET"}


@dataclass(frozen=True)
class Run:
    """What a run measured: `times[kind][engine][query]` and `planning[statement][partitions]`, medians in seconds."""

    times: Mapping[str, Mapping[str, Mapping[str, float]]]
    planning: Mapping[str, Mapping[int, float]]
    findings: Mapping[str, Any]
    machine: Mapping[str, Any]
    date: str


def read(document: Mapping[str, Any]) -> Run:
    """Read pytest-benchmark's JSON."""
    times: dict[str, dict[str, dict[str, float]]] = {}
    planning: dict[str, dict[int, float]] = {}
    for benchmark in document["benchmarks"]:
        info, median = benchmark["extra_info"], benchmark["stats"]["median"]
        if info["kind"] == "planning":
            planning.setdefault(info["query"], {})[info["partitions"]] = median
        else:
            times.setdefault(info["kind"], {}).setdefault(info["engine"], {})[info["query"]] = median
    return Run(times, planning, document["dagfusion"], document["machine_info"], document["datetime"][:10])


def markdown(run: Run) -> str:
    """Write the report."""
    sections = [
        ("Benchmarks", _conditions(run)),
        ("Warm: a session answers again", _times(run, "warm") + _limit(run)),
        ("Cold: a new session answers its first query", _times(run, "cold")),
        ("Where another engine is faster", _slower(run)),
        ("What a query reads", _claims(run)),
        ("What each engine asks of the S3 server", _requests(run)),
        ("Writing", _seeding(run)),
        ("Checking all partitions from their events", _checks(run)),
        ("Planning against the number of partitions", _planning(run)),
        ("A million partitions", _million(run)),
        ("The query service", of_service(run.findings)),
        (
            "Through the Iceberg catalog",
            through_iceberg(
                run.times.get("iceberg", {}),
                {**run.times.get("warm", {}), **run.times.get("listing", {})},
                run.findings,
            ),
        ),
        ("How each engine is set up", _setups(run)),
    ]
    body = [f"## {title}\n\n{text}" for title, text in sections[1:] if text]
    return "\n\n".join([f"# {sections[0][0]}\n\n{sections[0][1]}", *body]).rstrip() + "\n"


def _conditions(run: Run) -> str:
    facts = run.findings
    cpu = run.machine.get("cpu", {}).get("brand_raw", "unknown CPU")
    where = (
        f"`partitioned_organizations`: {facts['days']} days x 50 states, {facts['days'] * 50:,} Parquet objects of one"
        f" partition each, on the {facts['store']}; {facts['cpus']} cores ({cpu}) for server and engine, Python"
        f" {facts['python']}, {run.date}; load average at the start {facts['load_average']:.1f}."
    )
    checked = "Times are medians. Every answer was checked against the stored objects before the clock started."
    picture = "\n\n![Time by query and engine](queries.png)" if "warm" in run.times else ""
    return f"{where}\n\n{checked}{picture}"


def _times(run: Run, kind: str) -> str:
    if kind not in run.times:
        return ""
    names = [query.name for query in QUERIES]
    fresh = run.findings.get("fresh", {})
    body = [
        [engine, *(seconds(times.get(name)) for name in names), {True: "yes", False: "no"}.get(fresh.get(engine), "")]
        for engine, times in sorted(run.times[kind].items(), key=lambda item: not item[0].startswith(OURS))
    ]
    found = table(["engine", *(name.replace("_", " ") for name in names), "sees a partition of a second ago"], body)
    if NO_COPIES.name in run.times[kind]:
        found += f"\n\n`{NO_COPIES.name}` is the state before the object cache; `{OURS}`, that before a consolidation."
    return found


def _limit(run: Run) -> str:
    ours = {kind: run.times.get(kind, {}).get(OURS, {}) for kind in ("cold", "warm")}
    limits = run.times.get("limit", {}).get("GET + decode", {})
    body = [
        [query, kind, seconds(limit), seconds(ours[kind][query]), f"{ours[kind][query] / limit:.1f}x", bound]
        for query, limit in limits.items()
        for kind in ours
        if query in ours[kind]
        for bound in [_bound(run, query, kind)]
    ]
    if not body:
        return ""
    text = (
        "\n\nThe physical limit: a program that knows the keys gets exactly these objects, whole, 64 at a time, and"
        " decodes the query's columns (obstore and pyarrow; no catalog, no SQL, no aggregation). The last column has"
        " the parts of DagFusion's time. The start of a session, or a statement without objects, is the time of"
        " `count`: a new session connects to the event log, reads what is new there, and plans. The rest is what is"
        " left: planning and SQL over the objects; cold also the S3 client, each object's checksum and its copy on"
        " disk.\n\n"
    )
    return text + table(["query", "", "GET + decode", OURS, "ratio", "what bounds DagFusion"], body)


def _slower(run: Run) -> str:
    """List the lines on which another engine is faster, and what bounds ours there."""
    if not run.times.keys() & {"warm", "cold"}:
        return ""
    body = []
    for kind in ("warm", "cold"):
        times = run.times.get(kind, {})
        consolidated = {name: found for name, found in times.items() if name == CONSOLIDATED}
        peers = {engine: found for engine, found in times.items() if not engine.startswith(OURS)}
        for query, time in times.get(OURS, {}).items():
            ours = {OURS: time, **{name: found[query] for name, found in consolidated.items() if query in found}}
            best = min(ours, key=ours.__getitem__)
            faster = {engine: found[query] for engine, found in peers.items() if found.get(query, time) < time}
            if faster:
                by_time = sorted(faster.items(), key=lambda item: item[1])[:_FASTEST]
                shown = ", ".join(f"{engine} {seconds(took)}" for engine, took in by_time)
                is_first = ours[best] <= by_time[0][1]
                bound = "first after a consolidation" if is_first else _bound(run, query, kind)
                body.append([query, kind, seconds(time), seconds(ours.get(CONSOLIDATED)), shown, bound])
    header = ["query", "", OURS, "consolidated", "faster, up to three", "what bounds DagFusion"]
    found = table(header, body) if body else "Nowhere in this run."
    return f"{found}{_not_measured(run)}"


def _not_measured(run: Run) -> str:
    """Name the queries that no other engine was asked with a new session."""
    cold = run.times.get("cold", {})
    asked = {query for engine, times in cold.items() if not engine.startswith(OURS) for query in times}
    alone = [query for query in cold.get(OURS, {}) if query not in asked]
    return f"\n\nNot measured cold with other engines: {', '.join(alone)}." if alone else ""


def _bound(run: Run, query: str, kind: str) -> str:
    """Show what a query of small objects consists of: times are measured, or what is left of the query's time."""
    times, parts = run.times[kind][OURS], list[str]()
    left_s = times[query]
    counted = run.findings.get("claims", {}).get(query)
    if not counted or not (files := counted["files_read"]):
        return "start of a session and planning" if kind == "cold" else "planning"
    if (without_objects := times.get("count")) is not None:
        without_objects = min(without_objects, left_s)
        parts.append(f"{seconds(without_objects)} {_START[kind]}")
        left_s -= without_objects
    wire = counted[kind]
    if not wire["objects"]:
        parts.append(f"{seconds(left_s)} for {files:,} {'copies' if files > 1 else 'copy'} on disk, no request")
        return ", ".join(parts)
    asked = f"{_kinds(wire['requests'])}, {wire['bytes']:,} bytes"
    limit_s = run.times.get("limit", {}).get("GET + decode", {}).get(query)
    if limit_s is None or limit_s >= left_s:
        parts.append(f"{seconds(left_s)} for {asked}")
    else:
        parts += [f"{seconds(limit_s)} GET + decode ({asked})", f"{seconds(left_s - limit_s)} rest"]
    return ", ".join(parts)


def _claims(run: Run) -> str:
    claims, consolidated = run.findings.get("claims", {}), run.findings.get("consolidated_claims", {})
    if not claims:
        return ""
    text = _reads(claims) + _ratios(run)
    if consolidated:
        large = run.findings["consolidated_objects"]
        objects = f"{large['objects']:,} objects of {large['bytes'] / 1e6:,.1f} MB together"
        text += f"\n\nAfter a consolidation into {objects}:\n\n{_reads(consolidated)}{_date_both_ways(run)}"
    return text


def _date_both_ways(run: Run) -> str:
    """Compare what one day costs from small and from large objects."""
    found = run.findings.get("date_both_ways")
    if not found:
        return ""
    body = [
        [
            f"{way} objects",
            *(cell for kind in ("cold", "warm") for cell in (_kinds(one[kind]["requests"]), f"{one[kind]['bytes']:,}")),
            seconds(one["warm_s"]),
        ]
        for way, one in found.items()
    ]
    header = ["one day in all states, from", "requests, cold", "bytes", "requests, warm", "bytes", "time, warm"]
    text = "A scan takes a row group if it keeps at least half of its partitions. A row group has many days of a state."
    return f"\n\n{text} So one day is read from small objects:\n\n{table(header, body)}"


def _reads(claims: Mapping[str, Any]) -> str:
    titles = {query.name: query.title for query in QUERIES}
    body = [
        [
            f"{name}: {titles[name]}",
            f"{counted['files_read']:,}",
            f"{counted['files_skipped']:,}",
            _kinds(counted["cold"]["requests"]),
            _kinds(counted["warm"]["requests"]),
            f"{counted['cold']['bytes']:,}",
            f"{counted['warm']['bytes']:,}",
        ]
        for name, counted in claims.items()
    ]
    header = ["query", "files read", "files skipped", "requests, cold", "warm", "bytes, cold", "warm"]
    return table(header, body)


def _ratios(run: Run) -> str:
    ours = run.times.get("warm", {}).get(OURS, {})
    if not {"full_scan", "state", "point"} <= ours.keys():
        return ""
    full = ours["full_scan"]
    return (
        f"\n\nA full scan takes {full / ours['state']:.0f} times as long as one state, and"
        f" {full / ours['point']:.0f} times as long as one partition."
    )


def _requests(run: Run) -> str:
    asked: dict[tuple[str, str], dict[str, Any]] = {}
    for row in run.findings.get("requests", []):
        asked.setdefault((row["engine"], row["query"]), {})[row["kind"]] = row
    body = [
        [
            *key,
            *(cell for kind in ("cold", "warm") for cell in (_kinds(row[kind]["requests"]), f"{row[kind]['bytes']:,}")),
        ]
        for key, row in asked.items()
    ]
    return table(["engine", "query", "requests, cold", "bytes", "requests, warm", "bytes"], body) if body else ""


def _kinds(requests: Mapping[str, int]) -> str:
    named: dict[str, int] = {}
    for kind, number in requests.items():
        named[_REQUESTS.get(kind, kind)] = named.get(_REQUESTS.get(kind, kind), 0) + number
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(named.items(), reverse=True)) or "none"


def _seeding(run: Run) -> str:
    facts = run.findings.get("seeding")
    if not facts:
        return ""
    body = [
        [
            asset["key"],
            f"{asset['written']:,}",
            f"{asset['rows']:,}",
            f"{asset['bytes']:,}",
            seconds(asset["seconds"]),
        ]
        for asset in facts["assets"]
    ]
    text = (
        "`dagfusion seed` into an empty stack: one Dagster run an asset; each partition an object and an event of its"
        f" own. It took {seconds(facts['total_s'])} with the start of the stack, and its process had"
        f" {facts['peak_rss_mb']:,.0f} MB at most.\n\n"
    )
    return text + table(["asset", "partitions", "rows", "bytes", "time"], body)


def _checks(run: Run) -> str:
    found = run.times.get("checks", {})
    if not found:
        return ""
    text = (
        "A run of six checks, of rows, nulls, bounds, completeness, columns and freshness, beside what Dagster's own"
        " `fetch_materializations` takes to read the same events.\n\n"
    )
    queries = list(dict.fromkeys(query for times in found.values() for query in times))
    return text + table(
        ["", *queries], [[name, *map(seconds, map(times.get, queries))] for name, times in found.items()]
    )


def _planning(run: Run) -> str:
    if not run.planning:
        return ""
    sizes = sorted({size for times in run.planning.values() for size in times})
    body = [[f"{size:,}", *(seconds(times.get(size)) for times in run.planning.values())] for size in sizes]
    plot = "![Planning time against partitions](planning.png)\n\n"
    text = "From the statement's text to the plan over its files, planned anew each time.\n\n"
    return text + plot + table(["partitions", *run.planning], body)


def _million(run: Run) -> str:
    facts = run.findings.get("million")
    if not facts:
        return ""
    body = [
        [
            title,
            seconds(facts[key]["ready_s"]),
            f"{facts[key]['ready_peak_rss_mb']:,.0f} MB",
            f"{facts[key]['point_plan_ms']:.1f} ms",
            f"{facts[key]['planned_peak_rss_mb']:,.0f} MB",
        ]
        for key, title in (("sync", "first sync from PostgreSQL"), ("reload", "start from its snapshot"))
    ]
    size = f"\n\nThe event log's table is {facts['event_log_bytes'] / 1e9:.1f} GB in PostgreSQL."
    return table(["", "catalog is there after", "peak memory", "plan of a point query", "peak memory"], body) + size


def _setups(run: Run) -> str:
    timed = {engine for times in run.times.values() for engine in times}
    engines = [engine for engine in (*ENGINES, CONSOLIDATED_ENGINE, NOTHING_KEPT, *LISTERS) if engine.name in timed]
    return "\n".join(f"- **{engine.name}**: {engine.setup}" for engine in engines)


def plot(run: Run, folder: Path) -> None:
    """Draw the pictures that the report shows into a folder."""
    from benchmarks import plots  # noqa: PLC0415  # matplotlib is there where plots are drawn

    if "warm" in run.times:
        plots.queries({**run.times["warm"], **run.times.get("limit", {})}, OURS, folder / "queries.png")
    if run.planning:
        plots.planning(run.planning, folder / "planning.png")


def write(file: Path) -> None:
    """Write the report of a run, given pytest-benchmark's JSON, and its plots beside that."""
    run = read(json.loads(file.read_text()))
    (file.parent / "report.md").write_text(markdown(run))
    plot(run, file.parent)


def main() -> None:
    [name] = sys.argv[1:]
    write(Path(name))


if __name__ == "__main__":
    main()
