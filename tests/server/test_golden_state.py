"""The files that released versions left: this version reads them, or starts anew without losing a table."""

import json
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import obstore
import orjson
import pytest
from obstore.store import MemoryStore

from dagfusion_client.documents.query_documents import State
from dagfusion_client.errors import SnapshotError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog import manifest
from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.manifest import decode_manifest, encode_manifest
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.discovery.record_cache import RecordCache
from dagfusion_server.service.query_history import QueryHistory
from tests.query.catalog.checkpointing import purge
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import ASSETS, PREFIX, shown
from tests.server import golden_state as golden

VERSIONS = sorted(path.stem for path in golden.FOLDER.glob("*.json"))
ORGS, ORDERS = ASSETS
FILES = {(ORGS, "CA"): 4, (ORGS, "NY"): 2, (ORDERS, "NY"): 5}  # by partition the event whose file counts
UNKNOWN = 99  # a format of a version to come


@pytest.fixture(params=VERSIONS)
def left(request: pytest.FixtureRequest, tmp_path: Path, store: MemoryStore) -> Mapping[str, Any]:
    """Restore what a version left into `tmp_path` and `store`; return its golden file."""
    content: Mapping[str, Any] = json.loads((golden.FOLDER / f"{request.param}.json").read_text())
    golden.restore(content, tmp_path, store)
    return content


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def manifest_of(folder: Path) -> Path:
    [path] = folder.glob("manifest-*.json")
    return path


def make_unknown(folder: Path) -> None:
    """Write the manifest as if a version to come had done it."""
    path = manifest_of(folder)
    body = decode_manifest(path.read_bytes(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", UNKNOWN)
        path.write_bytes(encode_manifest({name: value for name, value in body.items() if name != "format"}))


def opened(log: PurgeableLog, folder: Path | None, store: MemoryStore | None = None) -> LiveCatalog:
    checkpoint = None if store is None else CheckpointStore(lambda: store, PREFIX)
    return LiveCatalog(log, "uat", folder, poll_interval_s=golden.NEVER_S, verify_interval_s=0.0, checkpoint=checkpoint)


def check(snapshot: Snapshot) -> None:
    """Assert that a snapshot has the files and the view of the golden event log."""
    assert shown(snapshot) == FILES
    views = {str(name): table.view.view.sql for name, table in snapshot.tables.items() if table.view is not None}
    assert views == {"uat_a.one": "SELECT 1 AS n"}


@pytest.mark.usefixtures("left")
def test_a_snapshot_is_read(tmp_path: Path) -> None:
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    check(stored.snapshot)
    with closing(opened(golden.event_log(), tmp_path)) as catalog:
        check(catalog.current())
        assert catalog.full_reads == (0 if stored.is_current else 1)


@pytest.mark.usefixtures("left")
def test_after_a_snapshot_of_an_unknown_format_the_event_log_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_unknown(tmp_path)
    with pytest.raises(SnapshotError, match=f"has format {UNKNOWN}, this version reads {manifest.FORMAT}"):
        SnapshotStore(tmp_path).load("uat")
    with closing(opened(golden.event_log(), tmp_path)) as catalog:
        check(catalog.current())
        assert catalog.full_reads == 1
    assert f"has format {UNKNOWN}" in caplog.text


@pytest.mark.usefixtures("left")
@pytest.mark.parametrize("state", ["lost", "unknown", "kept"])
def test_a_checkpoint_is_read_after_a_purge_of_the_event_log(tmp_path: Path, store: MemoryStore, state: str) -> None:
    if state == "unknown":
        make_unknown(tmp_path)
    log = golden.event_log()
    purge(log)
    with closing(opened(log, None if state == "lost" else tmp_path, store)) as catalog:
        check(catalog.current())


@pytest.mark.usefixtures("left")
def test_after_a_checkpoint_of_an_unknown_format_the_event_log_is_read(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{PREFIX.removeprefix('s3://bucket/')}/checkpoint.json"
    body = decode_manifest(bytes(obstore.get(store, path).bytes()), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", UNKNOWN)
        unknown = encode_manifest({name: value for name, value in body.items() if name != "format"})
    obstore.put(store, path, unknown)
    with closing(opened(golden.event_log(), None, store)) as catalog:
        check(catalog.current())
    assert f"has format {UNKNOWN}" in caplog.text
    assert bytes(obstore.get(store, path).bytes()) == unknown, "the version to come needs it"


@pytest.mark.usefixtures("left")
def test_the_history_of_queries_is_read(tmp_path: Path) -> None:
    with closing(QueryHistory(tmp_path, 100, 1 << 20)) as history:
        [found] = history.infos("ann", 10)
    fields = (found.id, found.user, found.sql, found.state, found.submitted_at, found.ended_at, found.stats.rows)
    assert fields == ("golden", "ann", "SELECT 1", State.finished, golden.AT, golden.AT, 1)


@pytest.mark.usefixtures("left")
def test_no_footer_is_read_again(tmp_path: Path) -> None:
    with closing(RecordCache(tmp_path)) as cache:
        assert cache.recognise(golden.IDENTITY) == [golden.foreign(3)]
        found = cache.find([golden.foreign(1), golden.foreign(2)])
    assert found == {event_id: golden.outcome(event_id) for event_id in (1, 2)}


def test_a_token_is_accepted(left: Mapping[str, Any], tmp_path: Path) -> None:
    assert Tokens(tmp_path / "tokens.json").authenticate(left["secret"]).name == "ann"


def test_this_version_has_a_golden_file_of_its_formats(tmp_path: Path) -> None:
    """If this fails, write the file of the version: see `tests/server/golden_state.py`."""
    content = json.loads((golden.FOLDER / f"{version('dagfusion-query')}.json").read_text())
    golden.restore(content, tmp_path / "golden", MemoryStore())
    golden.write_state(tmp_path / "own")
    formats = []
    for folder in (tmp_path / "golden", tmp_path / "own"):
        [body] = [orjson.loads(path.read_bytes().partition(b"\n")[2]) for path in folder.glob("manifest-*.json")]
        tokens = orjson.loads((folder / "tokens.json").read_bytes())
        formats.append((body["format"], tokens["version"], {path.name for path in folder.glob("*.sqlite")}))
    assert formats[0] == formats[1]
