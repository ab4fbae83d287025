"""Catalogs of any number of partitions, without an event log and without objects.

    python -m benchmarks.scale 10_000_000       prints what each part needs, as JSON

One process makes the snapshot as the follower of an event log would, with its segments on disk. Another one maps it and
plans statements, as a worker does.
"""

import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import synthetic
from benchmarks.memory import memory_mb, peak_rss_mb
from benchmarks.planning import Planner, best_s
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.segments import LARGE_ROWS
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.event_log.event_log_interface import BATCH, Cursor, Watermark

ROOT = Path(__file__).parents[1]
FOLDED = 4 * BATCH


def make(folder: Path, count: int) -> dict[str, float]:
    """Write the snapshot of a table of `count` partitions."""
    started, store, made = time.perf_counter(), SnapshotStore(folder), Snapshot(0, "local")
    events = synthetic.events(count)
    while batch := list(islice(events, FOLDED)):
        made = store.seal(fold(made, batch), LARGE_ROWS)
    folded_s = time.perf_counter() - started
    store.save(made, Cursor(Watermark(), {}), "scale")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "fold_s": folded_s,
        "save_s": time.perf_counter() - started - folded_s,
        "snapshot_mb": size / 1e6,
        "fold_peak_rss_mb": peak_rss_mb(),
    }


def plan(folder: Path) -> dict[str, float]:
    """Map the snapshot, and plan a point query and one of a state over it."""
    started = time.perf_counter()
    stored = SnapshotStore(folder).load("local")
    assert stored is not None
    found = {"load_s": time.perf_counter() - started, "loaded_peak_rss_mb": peak_rss_mb()}
    planner = Planner(stored.snapshot)
    for statement in ("point", "state"):
        started = time.perf_counter()
        [scan] = planner.plan(statement).scans
        found[f"{statement}_first_s"] = time.perf_counter() - started
        found[f"{statement}_ms"] = 1000 * best_s(lambda: planner.plan(statement), 3)  # noqa: B023  # called here
        found[f"{statement}_files"] = scan.count
        found[f"{statement}_rss_mb"], found[f"{statement}_anonymous_mb"] = memory_mb()
    planner.close()
    return found


def measure(count: int) -> dict[str, float]:
    """Measure each part in a process of its own, whose memory is only that part's."""
    found: dict[str, float] = {"partitions": count}
    with TemporaryDirectory(prefix="dagfusion-scale-") as folder:
        for arguments in (["make", folder, str(count)], ["plan", folder]):
            command = [sys.executable, "-m", __spec__.name, *arguments]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
            found |= json.loads(done.stdout)
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, count]:
            print(json.dumps(make(Path(folder), int(count))))
        case ["plan", folder]:
            print(json.dumps(plan(Path(folder))))
        case [count]:
            print(json.dumps(measure(int(count)), indent=2))
        case _:
            raise SystemExit(__doc__)
