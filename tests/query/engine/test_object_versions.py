"""Objects that are not those of their events: replaced, gone, damaged or archived, in a store or in a copy."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import obstore
import pyarrow as pa
import pytest

from dagfusion_client.errors import ArchivedObjectError, CorruptObjectError, StaleObjectError
from dagfusion_stack.object_store import ObjectStore
from tests.archive import archive
from tests.e2e.wire import Recorded
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, T, flipped, numbers, server, stored, wire, written

__all__ = ["server", "stored", "wire"]


@pytest.mark.parametrize("object_bytes", [1 << 20, 1], ids=["copied", "in place"])
class TestReplaced:
    def test_an_object_of_the_same_size_is_not_taken_for_the_one_of_the_event(
        self, stored: Callable[..., StoredLake], object_bytes: int
    ) -> None:
        lake = stored(object_cache_object_bytes=object_bytes)
        lake.put("a", numbers(0))
        event = lake.put("a", numbers(100), logged=False)

        with pytest.raises(StaleObjectError, match=r"p=a/data.parquet .* has changed since its event"):
            lake.rows(SUM)
        lake.fold([event])
        assert lake.rows(SUM) == [{"n": sum(range(100, 110))}]

    def test_an_object_that_is_gone(self, stored: Callable[..., StoredLake], object_bytes: int) -> None:
        lake = stored(object_cache_object_bytes=object_bytes)
        lake.put("a", numbers(0))
        obstore.delete(lake._store, f"{lake._prefix}/p=a/data.parquet")

        with pytest.raises(StaleObjectError, match="is gone from the object store"):
            lake.rows(SUM)

    def test_readers_see_no_mixture_while_an_object_is_rewritten(
        self, stored: Callable[..., StoredLake], object_bytes: int
    ) -> None:
        """Every row of a version has one value, and versions have one size."""
        lake = stored(object_cache_object_bytes=object_bytes)
        lake.put("a", pa.table({"x": [0] * 1000, "y": [0] * 1000}))
        stop = threading.Event()

        def rewrite() -> None:
            version = 0
            while not stop.is_set():
                version += 1
                lake.put("a", pa.table({"x": [version] * 1000, "y": [version] * 1000}))

        writer = threading.Thread(target=rewrite)
        writer.start()
        answers = stale = 0
        try:
            until = time.monotonic() + 15
            while answers < 50 and time.monotonic() < until:
                try:
                    (row,) = lake.rows(f"SELECT min(x + 0) a, max(x + 0) b, min(y + 0) c, max(y + 0) d FROM {T}")
                except StaleObjectError:
                    stale += 1
                    continue
                assert len(set(row.values())) == 1, row
                answers += 1
        finally:
            stop.set()
            writer.join()
        assert answers or stale


def test_a_run_that_is_not_read_to_its_end_is_compared_on_request(stored: Callable[..., StoredLake]) -> None:
    """As a worker does when a client wants so many rows and no more."""
    lake = stored(object_cache_object_bytes=1)
    lake.put("a", numbers(0, 200_000))
    run = lake.engine.run(lake.prepare(f"SELECT x + 0 AS x FROM {T}"))
    assert run.next() is not None
    run.check()
    lake.put("a", numbers(1, 200_000), logged=False)

    with pytest.raises(StaleObjectError, match=r"p=a/data.parquet .* has changed since its event"):
        run.check()
    run.cancel()


def test_an_object_that_two_scans_read_is_compared_once(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored(object_cache_object_bytes=1)
    lake.put("a", numbers(0))
    wire.requests.clear()
    assert lake.rows(f"SELECT count(*) AS n FROM {T} a JOIN {T} b ON a.x + 1 = b.x + 2") == [{"n": 9}]
    assert len([request for request in wire.requests if request.startswith("HEAD")]) == 1


def test_names_of_one_run_are_not_compared(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored(object_cache_object_bytes=1)
    lake.put("a", numbers(0), file="p=a/data-run.parquet")
    lake.put("b", numbers(0))
    wire.requests.clear()

    lake.rows(SUM)

    assert [request for request in wire.requests if request.startswith("HEAD")] == [
        f"HEAD /{BUCKET}/{lake._prefix}/p%3Db/data.parquet"
    ]


def test_bytes_that_are_not_those_that_were_written_are_an_error(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    lake.put("a", numbers(0), checksum=f"sha256:{'0' * 64}")

    with pytest.raises(CorruptObjectError, match=r"p=a/data.parquet .* do not have the checksum"):
        lake.rows(SUM)


def test_a_byte_that_is_damaged_on_the_way_is_read_again(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    """Wherever it is: in a page, in the footer, in its length."""
    lake = stored()
    size = written(lake.put("a", numbers(0))).size_bytes
    for position in range(0, size, max(1, size // 60)):
        lake.fold([lake.put("a", numbers(position))])
        wire.damage = lambda body, position=position: flipped(body, position) if len(body) == size else body
        assert lake.rows(SUM) == [{"n": sum(range(position, position + 10))}], position
        assert wire.damage is None, "nothing was damaged"


def test_a_byte_that_is_damaged_in_the_store_is_an_error(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    rows = numbers(0)
    for position in range(0, written(lake.put("a", rows)).size_bytes, 40):
        event = lake.put("a", rows, logged=False)
        key = f"{lake._prefix}/p=a/data.parquet"
        content = bytes(obstore.get(lake._store, key).bytes())
        put = obstore.put(lake._store, key, flipped(content, position))
        lake.fold([event])
        with pytest.raises(StaleObjectError, match=r"p=a/data.parquet"):
            lake.rows(SUM)
        # A store that does not know of the damage gives the etag of the event.
        lake.fold([event._replace(event_id=next(lake._ids), file=written(event)._replace(etag=put["e_tag"]))])
        with pytest.raises(CorruptObjectError, match=r"p=a/data.parquet .* do not have the checksum"):
            lake.rows(SUM)


@pytest.mark.parametrize("object_bytes", [1 << 20, 1], ids=["copied", "in place"])
def test_an_object_that_is_archived_is_an_error_of_its_own(
    tmp_path: Path, server: ObjectStore, object_bytes: int
) -> None:
    with archive() as endpoint:
        lake = StoredLake(tmp_path, server, endpoint, object_cache_object_bytes=object_bytes)
        lake.put("a=b", numbers(0))
        said = r"p=a=b/data.parquet \(table local_default.t, partition a=b\) is in an archive storage class"
        with pytest.raises(ArchivedObjectError, match=said):
            lake.rows(SUM)
        lake.engine.close()


def test_an_object_without_a_checksum_is_read(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    lake.put("a", numbers(0), checksum=None)

    assert lake.rows(SUM) == [{"n": 45}]


def test_a_copy_that_was_cut_is_to_be_fetched(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    for name in ("a", "b"):
        lake.put(name, numbers(0))
    lake.rows(SUM)
    copy, _ = Path(lake.settings.state_dir or "", "objects").glob("objects/*/*")
    copy.write_bytes(copy.read_bytes()[:-1])
    said = "from 1 local copy, 1 object to fetch"
    assert lake.engine.explain(lake.prepare(SUM)).scans[0].sources == said


def test_a_copy_that_was_altered_is_fetched_again(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored()
    lake.put("a", numbers(0))
    lake.rows(SUM)
    (copy,) = Path(lake.settings.state_dir or "", "objects").glob("objects/*/*")
    content = copy.read_bytes()
    copy.write_bytes(content.replace((7).to_bytes(8, "little"), (8).to_bytes(8, "little"), 1))
    wire.requests.clear()

    assert lake.rows(SUM) == [{"n": 45}]
    assert len(wire.requests) == 1
