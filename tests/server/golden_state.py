"""The files of a service that outlive it, as a released version wrote them: `tests/server/golden/`, one file a version.

`python -m tests.server.golden_state VERSION` writes the file of a version that is about to be released. A file that is
there is never written again: it has what that version wrote. JSON is text there, other bytes are in base64, and
databases are statements of SQL.
"""

import base64
import json
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
from obstore.store import MemoryStore

from dagfusion_client.documents.query_documents import QueryInfo, State, Stats
from dagfusion_contract.naming import TableName
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import View
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.discovery import record_cache
from dagfusion_query.discovery.record_cache import RecordCache, Refusal
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.event_log.stored_event import Foreign
from dagfusion_server.service import query_history
from dagfusion_server.service.query_history import QueryHistory
from tests.contract.records import file_record
from tests.query.catalog.checkpointing import Service
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import ASSETS, materialization

FOLDER = Path(__file__).parent / "golden"
IDENTITY = "golden/1"
NEVER_S = 3600.0
AT = datetime(2026, 1, 2, tzinfo=UTC)
QUERY = QueryInfo("golden", "ann", "http", "SELECT 1", State.finished, AT, Stats(rows=1), ended_at=AT)
DATABASES = (query_history.FILE_NAME, record_cache.RECORDS_FILE)


def event_log() -> PurgeableLog:
    """Return the event log of all golden files: five files, a wiped partition, and a view. It must never change."""
    log, (orgs, orders) = PurgeableLog(), ASSETS
    for partition in ("CA", "NY", "TX", "CA"):
        log.add(materialization(orgs, partition))
    log.add(materialization(orders, "NY"))
    log.add(materialization(orgs, "TX")._replace(file=Tombstone("wiped")))
    view = View("SELECT 1 AS n", (TableName("uat_a", "x"),), pa.schema({"n": pa.int64()}))
    log.add(Materialization(("a", "one"), 0, None, 0, "", view))
    log.tables.events = [event._replace(run_id=f"run of event {event.event_id}") for event in log.tables.events]
    return log


def foreign(event_id: int) -> Materialization:
    """Return a materialization of another IO manager."""
    return Materialization(("b", "foreign"), event_id, None, event_id * 10, "run", Foreign(f"s3://b/{event_id}", ()))


def outcome(event_id: int) -> Any:
    """Return what its discovery gave."""
    return Refusal("it is no Parquet") if event_id == 2 else [file_record()]


def write_state(folder: Path) -> str:
    """Write what a service leaves in its state folder; return the secret of its token."""
    LiveCatalog(event_log(), "uat", folder, poll_interval_s=NEVER_S, verify_interval_s=0.0).close()
    cache = RecordCache(folder)
    cache.recognise(IDENTITY)
    for event_id in (1, 2):
        cache.remember(foreign(event_id), outcome(event_id))
    cache.wait_for([foreign(3)])
    cache.flush()
    cache.close()
    history = QueryHistory(folder, 100, 1 << 20)
    history.record(QUERY, "ann")
    history.close()
    return Tokens(folder / "tokens.json").create("ann", ["uat"])


def write_checkpoint(store: MemoryStore) -> None:
    """Write the checkpoint of a catalog."""
    service = Service(event_log(), store, Clock())
    service.look()
    service.catalog.close()


def restore(golden: Mapping[str, Any], folder: Path, store: MemoryStore) -> None:
    """Put the files and objects of a version where it had them."""
    for name, content in golden["state"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name in DATABASES:
            with closing(sqlite3.connect(folder / name)) as database:
                database.executescript(content)
        else:
            (folder / name).write_bytes(_decoded(name, content))
    (folder / "tokens.json").chmod(0o600)
    for name, content in golden["checkpoint"].items():
        obstore.put(store, name, _decoded(name, content))


def _written(folder: Path) -> dict[str, Any]:
    secret, store = write_state(folder), MemoryStore()
    write_checkpoint(store)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    state = {name: _statements(folder / name) for name in DATABASES}
    state |= {n: _encoded(n, (folder / n).read_bytes()) for n in names if n not in state and not n.endswith("lock")}
    paths = sorted(meta["path"] for page in obstore.list(store) for meta in page)
    checkpoint = {path: _encoded(path, bytes(obstore.get(store, path).bytes())) for path in paths}
    return {"secret": secret, "state": state, "checkpoint": checkpoint}


def _encoded(name: str, content: bytes) -> str:
    return content.decode() if name.endswith(".json") else base64.b64encode(content).decode()


def _decoded(name: str, content: str) -> bytes:
    return content.encode() if name.endswith(".json") else base64.b64decode(content)


def _statements(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        [number] = database.execute("pragma user_version").fetchone()
        return "\n".join([f"pragma user_version = {number};", *database.iterdump()])


if __name__ == "__main__":
    [version] = sys.argv[1:]
    with tempfile.TemporaryDirectory() as made:
        text = json.dumps(_written(Path(made)), indent=1)
    with (FOLDER / f"{version}.json").open("x") as file:
        file.write(f"{text}\n")
