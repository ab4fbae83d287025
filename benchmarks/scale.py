"""Catalogs of any number of partitions, without an event log and without objects.

    python -m benchmarks.scale 10_000_000       prints what each part needs, as JSON

One process makes the snapshot as the follower of an event log would, with its segments on disk. Another one maps it and
plans statements, as a worker does. A third one writes the Iceberg metadata of the table and of later versions.
"""

import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import synthetic
from benchmarks.memory import memory_mb, peak_rss_mb
from benchmarks.planning import Planner, best_s
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot, layouts_of
from dagfusion_query.catalog.segments import LARGE_ROWS
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.event_log.event_log_interface import BATCH, Cursor, Watermark
from dagfusion_query.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDED = 4 * BATCH
_BATCH, _VERSIONS, _REWRITES = 365, 24, 6  # partitions of a version of Iceberg metadata, versions with new and old ones
_PRIME = 611_953


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


def iceberg(folder: Path, count: int) -> dict[str, list[int]]:
    """Write Iceberg metadata: the first time, after 365 new partitions, and after 365 were written again.

    Times are processor time. Of these partitions, most are of successive days, and the last ones are any.
    """
    stored = SnapshotStore(folder).load("local")
    assert stored is not None
    snapshot, found = stored.snapshot, dict[str, list[float]]()
    more = [*synthetic.partitions(count + _VERSIONS * _BATCH)]
    starts = range(0, count - _BATCH, count // _REWRITES)
    versions = [
        ("first", []),
        *(("new", more[start : start + _BATCH]) for start in range(count, len(more), _BATCH)),
        *(("near", more[start : start + _BATCH]) for start in starts),
        *(("anywhere", [more[_PRIME * number % count] for number in range(start, start + _BATCH)]) for start in starts),
    ]
    publisher, event_id = Publisher(f"file://{folder}/_iceberg", Settings()), count
    before_mb = peak_rss_mb()
    for kind, written in versions:
        snapshot = fold(snapshot, [*synthetic.materializations(written, event_id + 1)])
        event_id += len(written)
        [table] = snapshot.tables.values()
        layouts = layouts_of(table, snapshot.asset_states[table.asset_key])
        started = time.process_time()
        publisher.publish(table, layouts)
        found.setdefault(f"iceberg_{kind}_ms", []).append(1000 * (time.process_time() - started))
        if kind == "first":
            found["iceberg_first_mb"] = [before_mb, peak_rss_mb()]
    publisher.close()
    return {name: [round(value) for value in values] for name, values in found.items()}


def measure(count: int) -> dict[str, Any]:
    """Measure each part in a process of its own, whose memory is only that part's."""
    found: dict[str, Any] = {"partitions": count}
    with TemporaryDirectory(prefix="dagfusion-scale-") as folder:
        for arguments in (["make", folder, str(count)], ["plan", folder], ["iceberg", folder, str(count)]):
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
        case ["iceberg", folder, count]:
            print(json.dumps(iceberg(Path(folder), int(count))))
        case [count]:
            print(json.dumps(measure(int(count)), indent=2))
        case _:
            raise SystemExit(__doc__)
