"""A consolidation needs the same memory for a table of any size: less than 512 MB with all that it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import dagster as dg, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from obstore.store import LocalStore
from dagfusion_pipeline import consolidate
from dagfusion_pipeline.logged_files import CurrentFiles
from dagfusion_pipeline.store import ObjectStore

root, count = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(1)
rows = pa.table({f"x{i}": rng.integers(0, 1 << 40, 30_000) for i in range(10)})
(root / "0").mkdir(parents=True)
pq.write_table(rows, root / "0" / "data.parquet")
del rows
store = LocalStore(root)
layout = CurrentFiles({"fingerprint": "f", "fields": []}, pa.schema({"n": pa.int64()}))
files = []
for number in range(count):
    if number:
        (root / str(number)).mkdir()
        (root / str(number) / "data.parquet").hardlink_to(root / "0" / "data.parquet")
    head = store.head(f"{number}/data.parquet")
    uri = f"file:///{number}/data.parquet"
    files.append((number, number, uri, head["size"], head["e_tag"], None, 30_000, {"n": number}))
columns = [pa.array(column, field.type) for column, field in zip(zip(*files), layout.fields)]
layout.batches.append(pa.RecordBatch.from_arrays(columns, schema=layout.fields))
consolidate.current_files = lambda *_: [layout]
consolidate.logged_consolidations = lambda *_: []
bucket = ObjectStore(store, "file://")
manager = SimpleNamespace(object_store=bucket, upload_concurrency=32, compression="zstd", prefix="")
logged = []
found = consolidate.consolidate_asset(None, manager, dg.AssetKey("t"), "run", logged.append)
assert found.partitions == count, found
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
raw = sum(file[3] for file in files)
print(json.dumps({"mb": int(peak.split()[1]) / 1e3, "raw_mb": raw / 1e6, "objects": found.objects}))
"""
FILES = int(os.environ.get("DAGFUSION_MEMORY_FILES", "160"))  # of 2.8 MB


def _measured(folder: Path, files: int) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(files)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)  # noqa: S603 - our own program
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.usefixtures("processes", "long")
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    small, large = _measured(tmp_path / "small", FILES // 4), _measured(tmp_path / "large", FILES)

    assert large["raw_mb"] > 3 * small["raw_mb"]
    assert large["mb"] < 512, (small, large)
    assert large["mb"] - small["mb"] < (large["raw_mb"] - small["raw_mb"]) / 2, (small, large)
