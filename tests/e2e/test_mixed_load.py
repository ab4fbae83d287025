"""A hot table that is rewritten, consolidated, vacuumed and queried at once, by processes that are killed.

No answer is wrong, nothing is lost, and copies, kept results and large objects stay within their bounds. The
test takes some seconds; DAGFUSION_MIXED_S is for how long it shall run instead.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import dagster as dg
import pytest

from dagfusion_contract.uri import object_path
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_stack import object_store, postgres
from tests.e2e.consolidation import DAYS, KEY, STATES, Readings
from tests.e2e.mixed_load import MAINTENANCE, RETENTION_S, Processes, Written
from tests.e2e.vacuuming import large_objects, vacuumed

SECONDS = float(os.environ.get("DAGFUSION_MIXED_S", "5"))
BUCKET = "lake"
QUERIES = 2  # processes that query
COPIES_BYTES = 600_000  # less than the table has, so that copies are evicted all the time
RESULTS_BYTES = 200_000
SLACK = 1.5  # each process may write a part of the bound before it looks at all files


@pytest.fixture(scope="module")
def store(server_folder: Callable[[str], Path]) -> Iterator[object_store.ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def home(server_folder: Callable[[str], Path], tmp_path: Path) -> Iterator[Path]:
    server = postgres.start(server_folder("postgres"))
    server.create_database("mixed")
    url = server.url("mixed").replace("postgresql://", "postgresql+psycopg2://", 1)
    lines = ["telemetry: {enabled: false}", "python_logs: {python_log_level: ERROR}"]
    lines.append(f'storage: {{postgres: {{postgres_url: "{url}"}}}}')
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("\n".join(lines))
    yield folder
    server.stop()


@dataclass
class Most:
    """The most bytes that were seen of each kind, in each quarter of the time."""

    quarters: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(4)])

    def see(self, share: float, **found: int) -> None:
        quarter = self.quarters[min(3, int(share * 4))]
        for kind, size in found.items():
            quarter[kind] = max(quarter[kind], size)

    def of(self, kind: str) -> int:
        return max(quarter[kind] for quarter in self.quarters)

    def grew(self, kind: str) -> float:
        """Return by which factor the last quarter had more than the second one."""
        return self.quarters[3][kind] / max(1, self.quarters[1][kind])

    def __str__(self) -> str:
        return ", ".join(f"{kind} {[quarter[kind] for quarter in self.quarters]}" for kind in self.quarters[0])


class SupersededObjects:
    """The large objects that the catalog does not name, each with the time since when that is known."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}
        self._seen: list[tuple[float, int]] = []  # when, how many consolidations had ended

    def overdue(self, readings: Readings, connection: EmbeddedConnection, lines: Sequence[str]) -> list[str]:
        """Return those that the last vacuum that ended should have deleted.

        Args:
            readings: Their store.
            connection: Its catalog names the current ones.
            lines: What the process that consolidates and vacuums has reported.
        """
        began_s = self._last_vacuum_began(lines)
        stored = large_objects(readings)
        tables = connection.refresh().tables.values()
        named = {object_path(uri) for table in tables for uri in table.consolidated["uri"].to_pylist()}
        now_s = time.monotonic()
        self._since_s = {key: self._since_s.get(key, now_s) for key in stored if key not in named}
        return [key for key, since_s in self._since_s.items() if since_s < began_s - RETENTION_S]

    def _last_vacuum_began(self, lines: Sequence[str]) -> float:
        """Return a time before which the last vacuum that ended had not begun: it follows a consolidation."""
        ended = sum(line.startswith("consolidated") for line in lines)
        vacuums = [number for number, line in enumerate(lines) if line == "vacuumed"]
        before = sum(line.startswith("consolidated") for line in lines[: vacuums[-1]]) if vacuums else 0
        began_s = max((at for at, number in self._seen if number < before), default=0.0)
        self._seen.append((time.monotonic(), ended))
        return began_s


@pytest.mark.usefixtures("long")
def test_nothing_is_wrong_lost_or_unbounded(
    store: object_store.ObjectStore, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = store.environ()
    fields = {
        "bucket": BUCKET,
        "prefix": "mixed",
        "file_naming": "per_run",
        "endpoint_url": store.endpoint,
        "region": environ["AWS_REGION"],
        "access_key_id": environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": environ["AWS_SECRET_ACCESS_KEY"],
    }
    copies, results = tmp_path / "copies", tmp_path / "results"
    settings = {
        **environ,
        "DAGFUSION_STATE_DIR": str(tmp_path / "state"),
        "DAGFUSION_OBJECT_CACHE_DIR": str(copies),
        "DAGFUSION_OBJECT_CACHE_BYTES": str(COPIES_BYTES),
        "DAGFUSION_RESULT_CACHE_DIR": str(results),
        "DAGFUSION_RESULT_CACHE_BYTES": str(RESULTS_BYTES),
    }
    rng, most, written = Random(), Most(), Written(tmp_path / "written.json")  # noqa: S311
    superseded, overdue = SupersededObjects(), set[str]()
    with dg.DagsterInstance.from_config(str(home)) as instance, connect_embedded(str(home), settings=settings) as mine:
        readings = Readings(instance, fields)
        readings.write(STATES, DAYS)
        written.write(readings.versions, readings.versions)
        began = time.monotonic()
        with Processes(tmp_path, home, fields, settings, written, QUERIES) as processes:
            while (share := (time.monotonic() - began) / SECONDS) < 1 or len(processes.kills) < len(processes.reports):
                before = dict(readings.versions)
                written.write(before, dict.fromkeys(before, readings.newest + 1))
                readings.rewrite(rng)
                written.write(readings.versions, dict.fromkeys(before, readings.newest))
                readings.check(mine, rng)
                large = sum(large_objects(readings).values())
                most.see(share, copies=used(copies), results=used(results), large=large)
                overdue.update(superseded.overdue(readings, mine, processes.reports[MAINTENANCE].lines()))
                processes.kill_one(rng)
        readings.check(mine, rng)
        readings.consolidate()
        vacuumed(readings, kept_s=0)
        current = sum(large_objects(readings).values())
        assert readings.check(mine, rng)[0] == len(STATES) * len(DAYS)
        prefix = f"{readings.manager.prefix}/" + "/".join(KEY.path)
        small = list(readings.manager.object_store.list_objects(prefix))

    with capsys.disabled():
        print(f"\n{readings.newest} rewrites, kills {dict(processes.kills)}, most bytes {most}")  # noqa: T201
        print(f"{current} bytes of large objects at the end")  # noqa: T201
        for name, report in processes.reports.items():
            print(f"  {name}: {Counter(line.partition(':')[0] for line in report.lines()).most_common(6)}")  # noqa: T201
    assert processes.failures() == []
    assert f"consolidated {len(STATES) * len(DAYS)}" in processes.reports[MAINTENANCE].lines()
    assert most.of("copies") <= COPIES_BYTES * SLACK
    assert most.of("results") <= RESULTS_BYTES * SLACK
    assert most.of("large") > 0
    assert overdue == set()  # none can be in a run that is shorter than the retention
    if SECONDS >= 8 * RETENTION_S:
        assert most.grew("large") <= SLACK
    assert len(small) == len(STATES) * len(DAYS)


def used(folder: Path) -> int:
    """Return the bytes of the files that a cache folder keeps, some of which may go in the meantime."""
    total = 0
    for path in (folder / "objects").rglob("*"):  # beside it are the keys of those that were evicted
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
