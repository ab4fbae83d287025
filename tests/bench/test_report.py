"""The report: from pytest-benchmark's JSON to Markdown and plots."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, tables

CLAIM = {
    "files_read": 1,
    "files_skipped": 18_249,
    "cold": {"requests": {"GET range": 3}, "objects": 1, "bytes": 9_000},
    "warm": {"requests": {}, "objects": 0, "bytes": 0},
}
PROBED = {"ready_s": 21.0, "ready_peak_rss_mb": 912.4, "point_plan_ms": 5.25, "planned_peak_rss_mb": 1012.4}


def benchmark(median: float, **info: object) -> dict[str, Any]:
    return {"extra_info": info, "stats": {"median": median}}


def document(**findings: object) -> dict[str, Any]:
    ours = {"point": 0.005, "state": 0.1, "full_scan": 8.0}
    return {
        "datetime": "2026-11-23T12:00:00+00:00",
        "machine_info": {"cpu": {"brand_raw": "A CPU"}},
        "benchmarks": [
            *(benchmark(time, kind="warm", engine="DagFusion", query=query) for query, time in ours.items()),
            benchmark(1.7, kind="warm", engine="Lister", query="point"),
            benchmark(0.05, kind="warm", engine="Lister", query="state"),
            benchmark(0.0025, kind="limit", engine="GET + decode", query="point"),
            benchmark(0.003, kind="planning", query="point", partitions=1_000_000),
            benchmark(1.9, kind="checks", engine="DagFusion", query="18,250 partitions"),
            benchmark(14.0, kind="checks", engine="Dagster reads", query="18,250 partitions"),
        ],
        "dagfusion": {
            "days": 365,
            "store": "embedded S3 server",
            "cpus": 2,
            "python": "3.11.15",
            "load_average": 0.5,
            "requests": [],
            "fresh": {"DagFusion": True, "Lister": False},
            **findings,
        },
    }


def test_the_report_shows_what_was_measured() -> None:
    text = report.markdown(report.read(document(claims={"point": CLAIM}, million=_million())))
    for line in (
        "18,250 Parquet objects",
        "| DagFusion | 5.0 ms | 100 ms |  |  |  |  |  | 8.0 s | yes |",
        "| Lister | 1.7 s | 50 ms |  |  |  |  |  |  | no |",
        "| point | warm | 2.5 ms | 5.0 ms | 2.0x | 5.0 ms for 1 copy on disk, no request |",
        "| point: one state on one day | 1 | 18,249 | 3 GET | none | 9,000 | 0 |",
        "A full scan takes 80 times as long as one state, and 1600 times as long as one partition.",
        "| 1,000,000 | 3.0 ms |",
        "|  | 18,250 partitions |",
        "| DagFusion | 1.9 s |",
        "| Dagster reads | 14 s |",
        "| first sync from PostgreSQL | 21 s | 912 MB | 5.2 ms | 1,012 MB |",
    ):
        assert line in text


def test_the_report_says_where_another_engine_is_faster() -> None:
    text = report.markdown(report.read(document()))
    assert "| state | warm | 100 ms |  | Lister 50 ms | planning |" in text
    assert "Lister 1.7 s" not in text


def test_the_report_says_what_bounds_a_line_on_which_another_engine_is_faster() -> None:
    local = {**CLAIM, "files_read": 365}
    text = report.markdown(report.read(document(claims={"state": local})))
    assert "| Lister 50 ms | 100 ms for 365 copies on disk, no request |" in text

    asked = {"requests": {"GET": 365}, "objects": 365, "bytes": 5_770_347}
    found = document(claims={"state": {**local, "warm": asked}})
    assert "| Lister 50 ms | 100 ms for 365 GET, 5,770,347 bytes |" in report.markdown(report.read(found))

    found["benchmarks"] += [
        benchmark(0.004, kind="warm", engine="DagFusion", query="count"),
        benchmark(0.03, kind="limit", engine="GET + decode", query="state"),
    ]
    assert (
        "| Lister 50 ms | 4.0 ms statement without objects, 30 ms GET + decode (365 GET, 5,770,347 bytes), 66 ms rest |"
    ) in report.markdown(report.read(found))


@pytest.mark.parametrize(
    ("took", "bound"), [(0.04, "first after a consolidation"), (0.06, "100 ms for 365 GET, 5,770,347 bytes")]
)
def test_the_report_says_where_a_consolidation_makes_it_the_first(took: float, bound: str) -> None:
    asked = {"requests": {"GET": 365}, "objects": 365, "bytes": 5_770_347}
    claims = {"state": {**CLAIM, "files_read": 365, "warm": asked}}
    after = {"state": {**CLAIM, "warm": {"requests": {"GET": 1}, "objects": 1, "bytes": 1}}}
    large = {"objects": 50, "bytes": 9_100_000}
    found = document(claims=claims, consolidated_claims=after, consolidated_objects=large)
    found["benchmarks"].append(benchmark(took, kind="warm", engine="DagFusion, consolidated", query="state"))
    text = report.markdown(report.read(found))
    assert f"| state | warm | 100 ms | {took * 1000:.0f} ms | Lister 50 ms | {bound} |" in text
    assert "After a consolidation into 50 objects of 9.1 MB together:" in text
    lines = text.splitlines()
    assert lines.index(next(line for line in lines if line.startswith("| DagFusion, consolidated |"))) < lines.index(
        next(line for line in lines if line.startswith("| Lister |"))
    )


def test_the_report_compares_one_day_from_small_and_from_large_objects() -> None:
    def wire(requests: int, size: int) -> dict[str, object]:
        return {"requests": {"GET": requests} if requests else {}, "objects": requests, "bytes": size}

    ways = {
        "small": {"cold": wire(50, 400_000), "warm": wire(0, 0), "warm_s": 0.014},
        "large": {"cold": wire(50, 9_400_000), "warm": wire(0, 0), "warm_s": 0.021},
    }
    large = {"objects": 50, "bytes": 9_400_000}
    found = document(
        claims={"point": CLAIM}, consolidated_claims={"point": CLAIM}, consolidated_objects=large, date_both_ways=ways
    )
    text = report.markdown(report.read(found))
    assert "| small objects | 50 GET | 400,000 | none | 0 | 14 ms |" in text
    assert "| large objects | 50 GET | 9,400,000 | none | 0 | 21 ms |" in text


def test_the_report_names_the_state_before_the_object_cache() -> None:
    found = document()
    assert "before the object cache" not in report.markdown(report.read(found))
    found["benchmarks"].append(benchmark(0.3, kind="warm", engine="DagFusion, no local copies", query="state"))
    text = report.markdown(report.read(found))
    assert "`DagFusion, no local copies` is the state before the object cache;" in text


def test_the_report_lists_what_each_engine_asked_for() -> None:
    asked = [
        {"engine": "Lister", "query": "point", "kind": kind, "requests": requests, "objects": 1, "bytes": size}
        for kind, requests, size in (("cold", {"LIST": 2, "GET range": 3}, 1_234), ("warm", {"GET": 1}, 99))
    ]
    text = report.markdown(report.read(document(requests=asked)))
    assert "| Lister | point | 2 LIST, 3 GET | 1,234 | 1 GET | 99 |" in text


def test_the_report_tells_what_seeding_took() -> None:
    asset = {"key": "Silver/TaxID/x", "written": 18_250, "rows": 1_000, "bytes": 99_000, "seconds": 27.6}
    text = report.markdown(report.read(document(seeding={"assets": [asset], "total_s": 61.2, "peak_rss_mb": 812.7})))
    assert "| Silver/TaxID/x | 18,250 | 1,000 | 99,000 | 28 s |" in text
    assert "It took 61 s with the start of the stack, and its process had 813 MB at most." in text


def test_the_documents_show_lines_of_the_report(root: Path) -> None:
    benchmarks = (root / "docs/explanation/benchmarks.md").read_text()
    shown = [line for line in benchmarks.splitlines() if line.startswith("|")]
    assert len(shown) > 3
    assert {*shown} <= {*(root / "benchmarks/report/report.md").read_text().splitlines()}


def test_the_figures_of_the_readme_are_those_of_the_report(root: Path) -> None:
    """One day in all states: DagFusion, and the engines that list the bucket and see what was just written."""
    report_text = (root / "benchmarks/report/report.md").read_text()
    warm = report_text.partition("\n## Warm")[2].partition("\n## ")[0].partition("\nThe physical limit")[0]
    rows = [line.strip("| ").split(" | ") for line in warm.splitlines() if line.startswith("| ")][2:]
    day = {row[0]: row[3] for row in rows if row[-1] == "yes"}
    own, others = day["DagFusion"], {time for name, time in day.items() if not name.startswith("DagFusion")}
    readme = " ".join((root / "README.md").read_text().split())
    assert f"takes {own}." in readme
    assert f"take {min(others).removesuffix(' s')} to {max(others)} when they list" in readme


def test_the_committed_report_is_made_of_the_committed_measurements(root: Path) -> None:
    run = report.read(json.loads((root / "benchmarks/report/benchmark.json").read_text()))
    assert report.markdown(run) == (root / "benchmarks/report/report.md").read_text()


def of_service(**findings: object) -> dict[str, Any]:
    """Return a run with the measurements that the section of the service begins with."""
    soak = {"clients": 2, "seconds": 1.0, "answers": {"200": 9}, "p50_ms": 1.0, "p99_ms": 2.0}
    soak |= {"rss_first_mb": 1.0, "rss_peak_mb": 2.0}
    findings = {"service_point_s": {"embedded": 0.004, "HTTP, raw": 0.005}} | findings
    return document(
        service_rate_mb_s={"HTTP": 700.0},
        service_large_rss_mb={"before": 1.0, "after": 2.0},
        service_soak=soak,
        **findings,
    )


def test_the_report_says_how_much_of_a_kept_result_is_not_the_doors_time() -> None:
    kept = {"SELECT 1": 0.0038, "state, kept": 0.0025}
    text = report.markdown(report.read(of_service(service_kept_result_s=kept)))
    assert "the query `state` 2.5 ms if its result is kept." in text
    assert "no worker" not in text

    text = report.markdown(report.read(of_service(service_kept_result_s={"no worker": 0.0016, **kept})))
    assert "takes 1.6 ms in the same turns" in text
    assert "The kept result takes 0.9 ms more." in text


def test_the_report_says_which_process_a_door_takes_its_time_in() -> None:
    spent = {"HTTP, raw": {"client": 0.0004, "service": 0.0012, "workers": 0.0031}}
    text = report.markdown(report.read(of_service(service_point_processor_s=spent)))
    assert "| HTTP, raw | 5.0 ms | 1.0 ms |" in text
    assert "| HTTP, raw | 0.4 ms | 1.2 ms | 3.1 ms | 4.7 ms |" in text


def test_the_report_says_what_the_bare_door_is() -> None:
    times = {"embedded": 0.004, "HTTP, raw": 0.007, "HTTP, raw, bare": 0.0055}
    text = report.markdown(report.read(of_service(service_point_s=times)))
    assert "| HTTP, raw, bare | 5.5 ms | 1.5 ms |" in text
    assert "`HTTP, raw, bare` is an HTTP server" in text


def test_sections_without_measurements_are_left_out() -> None:
    text = report.markdown(report.read(document()))
    assert "A million partitions" not in text
    assert "What a query reads" not in text


@pytest.mark.parametrize("kind", ["warm", "limit", "planning", None])
def test_a_part_of_the_benchmarks_has_a_report_too(kind: str | None) -> None:
    found = document()
    found["benchmarks"] = [one for one in found["benchmarks"] if one["extra_info"]["kind"] == kind]
    text = report.markdown(report.read(found))
    assert ("](queries.png)" in text) == ("## Warm" in text) == (kind == "warm")
    assert ("](planning.png)" in text) == (kind == "planning")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00012, "0.1 ms"), (0.0094, "9.4 ms"), (0.00996, "10 ms"), (0.99, "990 ms"), (0.9999, "1.0 s"), (61.4, "61 s")],
)
def test_times_have_two_digits(value: float, text: str) -> None:
    assert tables.seconds(value) == text


@pytest.mark.usefixtures("processes")  # matplotlib lists the fonts once
def test_plots_are_small_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the group `bench`")
    run = report.read(document())
    report.plot(run, tmp_path)
    for name in ("queries.png", "planning.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 200_000


def _million() -> dict[str, object]:
    return {"sync": PROBED, "reload": PROBED, "event_log_bytes": 2_500_000_000}
