"""A lake of Parquet files on local disk with the events that describe them, and an engine over it."""

import datetime as dt
import gc
import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from obstore.store import LocalStore

from dagfusion_contract.naming import TableName
from dagfusion_contract.record import DataFile
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.engine.copy_requests import Missing
from dagfusion_query.engine.engine import Engine, Prepared
from dagfusion_query.engine.stored_objects import StoredObject
from dagfusion_query.event_log.event_log_interface import Event, Materialization
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_query.scan.copied_objects import CopiedPart
from dagfusion_query.settings import Settings

ORGS = ("Silver", "TaxID", "orgs")
TABLE = "local_silver_tax_id.orgs"
STATES = ["CA", "NY", "TX", None]
DAYS = [dt.date(2024, 1, day) for day in range(1, 8)]


class Lake:
    """Files and their events; `snapshot` is the catalog of all so far.

    Args:
        root: The folder.
        with_checksums: Whether the events tell the files' checksums.
        with_etags: Whether they tell the files' etags.
        settings: Variables of the engine.
        now: Returns the time by which the engine leaves out archived objects.
    """

    def __init__(
        self,
        root: Path,
        *,
        with_checksums: bool = False,
        with_etags: bool = False,
        settings: Mapping[str, str] = MappingProxyType({}),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.root, self.with_checksums, self.with_etags = root, with_checksums, with_etags
        self._snapshot = Snapshot(0, "local")
        self._unfolded: list[Event] = []
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._reader = EventReader()
        self.engine = Engine(Settings.read({"DAGFUSION_HOME": str(root / "home"), **settings}), now=now)

    @property
    def snapshot(self) -> Snapshot:
        """The catalog, which folds all new events at once: a fold for each file would take most of a test's time."""
        with self._lock:
            if self._unfolded:
                self._snapshot, self._unfolded = fold(self._snapshot, self._unfolded), []
            return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._snapshot, self._unfolded = snapshot, []

    def write(
        self,
        asset_key: tuple[str, ...],
        rows: pa.Table,
        partition: Mapping[str, pa.Scalar] | None = None,
        *,
        folder: str | None = None,
        modified: datetime | None = None,
    ) -> Path:
        """Write one partition's file and fold its event; `partition` holds its typed values."""
        values = dict(partition or {})
        number = next(self._ids)
        path = self.root.joinpath(*asset_key) / (folder if folder is not None else f"f{number}") / "data.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path, row_group_size=64)
        if modified is not None:
            os.utime(path, (modified.timestamp(), modified.timestamp()))
        self.fold([self.event(asset_key, rows, values, path, number)])
        return path

    def event(
        self, asset_key: tuple[str, ...], rows: pa.Table, values: Mapping[str, pa.Scalar], path: Path, number: int
    ) -> Materialization:
        """Describe a written file as its materialization does."""
        record = {
            "version": 1,
            "uri": f"file://{path}",
            "size_bytes": path.stat().st_size,
            "etag": local_etag(path) if self.with_etags else None,
            "checksum": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if self.with_checksums else None,
            "modified": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat().replace("+00:00", "Z"),
            "rows": rows.num_rows,
            "partition": [{"name": k, "type": str(v.type), "value": _json(v)} for k, v in values.items()],
            "schema": {"fingerprint": str(rows.schema), "fields": [_field(field) for field in rows.schema]},
            "columns": {name: _statistics(rows[name]) for name in rows.column_names},
        }
        key = "|".join(str(value.as_py()) for value in values.values()) if values else None
        at_us = int(datetime.now(UTC).timestamp() * 1e6)
        return Materialization(asset_key, number, key, at_us, "run", self._reader.read(record))

    def copy(self, other: "Lake") -> None:
        """Take over the files of a lake whose events have not been folded, which is cheaper than to write them."""
        shutil.copytree(other.root, self.root, dirs_exist_ok=True)
        for event in other._unfolded:
            assert isinstance(event, Materialization)
            assert isinstance(event.file, DataFile)
            uri = event.file.uri.replace(str(other.root), str(self.root))
            self.fold([event._replace(event_id=next(self._ids), file=event.file._replace(uri=uri))])

    def fold(self, events: list[Event]) -> None:
        """Let the catalog learn of events."""
        with self._lock:
            self._unfolded += events

    def prepare(self, sql: str, params: Any = None) -> Prepared:
        """Plan a statement over the catalog as it is now."""
        return self.engine.prepare(sql, params, self.snapshot)

    def sql(self, sql: str, params: Any = None) -> pa.Table:
        """Return all rows of a statement."""
        prepared = self.prepare(sql, params)
        run = self.engine.run(prepared, result_cache=False)
        batches = list(iter(run.next, None))
        return pa.Table.from_batches(batches, prepared.schema)

    def rows(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
        """Return all rows of a statement as dictionaries."""
        return list(self.sql(sql, params).to_pylist())

    def files_read(self, sql: str) -> list[tuple[int, int]]:
        """Return for each scan of a statement how many files it reads, of how many."""
        return [(scan.count, len(scan.table.files)) for scan in self.prepare(sql).scans]


@pytest.fixture(scope="session")
def lake_class() -> type[Lake]:
    return Lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    made = Lake(tmp_path)
    yield made
    made.engine.close()


@pytest.fixture(scope="session")
def written_orgs(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("orgs"))
    for i, (state, day) in enumerate((s, d) for s in STATES for d in DAYS):
        rows = pa.table({"id": pa.array(range(10 * i, 10 * i + 10), pa.int64()), "name": [f"org {i}"] * 9 + [None]})
        lake.write(ORGS, rows, {"state": pa.scalar(state, pa.string()), "date": pa.scalar(day, pa.date32())})
    lake.engine.close()
    return lake


@pytest.fixture
def orgs(lake: Any, written_orgs: Lake) -> Any:
    """4 states (one NULL) x 7 days; partition i of them has ids 10 i .. 10 i + 9."""
    lake.copy(written_orgs)
    return lake


@pytest.fixture
def new_lake(tmp_path: Path) -> Iterator[Callable[..., Lake]]:
    """Make as many lakes as a property test has examples."""
    made: list[Lake] = []

    def make(**options: Any) -> Lake:
        made.append(Lake(tmp_path / str(len(made)), **options))
        os.makedirs(made[-1].root, exist_ok=True)  # noqa: PTH103
        return made[-1]

    yield make
    for one in made:
        one.engine.close()
    made.clear()
    gc.collect()  # little of Python's memory refers to much of DataFusion's


def local_etag(path: Path) -> str | None:
    """Return the etag that obstore gives a file."""
    return LocalStore(path.parent).head(path.name)["e_tag"]


def _field(field: pa.Field) -> dict[str, Any]:
    kind = {"struct": list(map(_field, field.type))} if pa.types.is_struct(field.type) else str(field.type)
    return {"name": field.name, "type": kind, "nullable": field.nullable}


def _statistics(column: pa.ChunkedArray) -> dict[str, Any]:
    known: dict[str, Any] = {"nulls": column.null_count}
    if not len(column) or column.null_count == len(column) or pa.types.is_nested(column.type):
        return known
    if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
        return known
    bounds = pc.min_max(column).as_py()
    return known | {name: _json(pa.scalar(bounds[name], column.type)) for name in ("min", "max")}


def _json(value: pa.Scalar) -> Any:
    plain = value.as_py()
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(plain, datetime):
        digits = {"s": "seconds", "ms": "milliseconds"}.get(value.type.unit, "microseconds")
        return plain.isoformat(timespec=digits).replace("+00:00", "Z")
    return plain.isoformat() if hasattr(plain, "isoformat") else str(plain)


def missing(*sizes: int) -> list[Missing]:
    """Return the copies of objects of these sizes."""
    table = Table(
        ("t",), TableName("local_default", "t"), pa.schema([]), pa.schema([]), "", pa.table({}), environment="local"
    )
    objects = [StoredObject(table, str(n), f"s3://lake/{n}", size, "1", None, "") for n, size in enumerate(sizes)]
    return [Missing(file.uri, file, CopiedPart(0, 0, file.size_bytes)) for file in objects]
