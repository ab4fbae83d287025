"""Objects of a store: fetched once into verified copies, or compared with their events after they were read."""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import obstore
import pyarrow as pa
import pytest

from dagfusion_contract.record import DataFile
from dagfusion_query.engine.plan_execution import Batches, Execution
from dagfusion_query.errors import ArchivedObjectError, CorruptObjectError, SettingsError, StaleObjectError
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.object_cache.copies import Copies, CopyUse
from dagfusion_stack.object_store import ObjectStore
from tests.archive import archive
from tests.e2e.wire import Recorded
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, T, flipped, numbers, server, stored, wire

__all__ = ["server", "stored", "wire"]


def test_a_cold_object_takes_one_request_and_a_warm_one_none(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored()
    for number in range(20):
        lake.put(str(number), numbers(number))
    wire.requests.clear()

    assert lake.rows(SUM) == [{"n": sum(sum(range(n, n + 10)) for n in range(20))}]
    assert len(wire.requests) == 20
    assert all(request.startswith("GET ") for request in wire.requests)

    lake.rows(SUM)
    lake.rows(f"SELECT * FROM {T} WHERE p = '7'")
    other = stored()
    other.snapshot = lake.snapshot
    other.rows(SUM)
    assert len(wire.requests) == 20


@pytest.mark.parametrize("object_bytes", [1 << 20, 1], ids=["copied", "in place"])
def test_the_time_of_requests_is_measured(stored: Callable[..., StoredLake], object_bytes: int) -> None:
    lake = stored(object_cache_object_bytes=object_bytes)
    lake.put("a", numbers(0))

    def run() -> Batches:
        batches = lake.engine.run(lake.prepare(SUM), result_cache=False)
        while batches.next() is not None:
            pass
        return batches

    assert run().requests_s > 0
    assert (run().requests_s == 0) == (object_bytes > 1), "a local copy needs no request"


def test_scans_that_are_merged_read_their_objects_once(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored()
    for number in range(5):
        lake.put(str(number), numbers(number))
    mean = f"(SELECT avg(x + 0) FROM {T})"
    sql = f"SELECT count(*) AS n FROM {T} WHERE x + 0 > {mean} UNION ALL SELECT count(*) FROM {T} WHERE x + 0 < {mean}"
    assert sorted(row["n"] for row in lake.rows(sql)) == [25, 25]
    sources = [scan.sources for scan in lake.engine.explain(lake.prepare(sql)).scans]
    assert sorted(sources) == ["", *["from 5 local copies"] * 3]
    wire.requests.clear()
    batches = lake.engine.run(lake.prepare(sql), result_cache=False)
    while batches.next() is not None:
        pass
    assert (wire.requests, batches.requests_s) == ([], 0)


def test_the_requests_for_copies_are_measured_by_table(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    events = [lake.put(str(number), numbers(number)) for number in range(3)]
    batches = lake.engine.run(
        lake.prepare(f"SELECT count(*) AS n FROM {T} a JOIN {T} b ON a.x + 1 = b.x + 1"), result_cache=False
    )
    while batches.next() is not None:
        pass
    [fetch] = batches.fetches
    assert (fetch.table, fetch.requests) == (T, 3)
    assert fetch.bytes == sum(event.file.size_bytes for event in events if isinstance(event.file, DataFile))
    assert 0 <= fetch.began_s < fetch.ended_s


@pytest.mark.parametrize("object_bytes", [1 << 20, 1], ids=["copied", "in place"])
def test_copies_that_are_there_and_those_that_are_fetched_are_counted(
    stored: Callable[..., StoredLake], object_bytes: int
) -> None:
    lake = stored(object_cache_object_bytes=object_bytes)

    def copies(sql: str) -> CopyUse:
        batches = lake.engine.run(lake.prepare(sql), result_cache=False)
        while batches.next() is not None:
            pass
        return batches.copies

    for number in range(3):
        lake.put(str(number), numbers(number))
    both = f"SELECT count(*) AS n FROM {T} a JOIN {T} b ON a.x + 1 = b.x + 1"
    counted = [copies(both), copies(SUM)]
    lake.put("3", numbers(3))
    counted += [copies(SUM), copies(f"SELECT count(*) AS n FROM {T}")]
    assert counted == (
        [CopyUse(0, 3), CopyUse(3, 0), CopyUse(3, 1), CopyUse()] if object_bytes > 1 else [CopyUse()] * 4
    )


def test_a_staged_statement_counts_each_copy_once(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    for number in range(3):
        lake.put(str(number), numbers(number))
    once = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 2)"
    prepared = lake.prepare(f"{once} SELECT count(*) AS n FROM {T} a JOIN {T} b ON a.x + 1 = b.x + 1, r")
    assert prepared.path == "staged"
    for expected in (CopyUse(0, 3), CopyUse(3, 0)):
        batches = lake.engine.run(prepared, result_cache=False)
        while batches.next() is not None:
            pass
        assert batches.copies == expected


@pytest.mark.parametrize(("less", "said"), [(0, "2 objects to fetch"), (1, "2 objects in place")])
def test_an_object_of_the_largest_size_is_copied(stored: Callable[..., StoredLake], less: int, said: str) -> None:
    lake = stored()
    sizes = [written(lake.put(name, numbers(0))).size_bytes for name in ("a", "b")]
    other = stored(object_cache_object_bytes=max(sizes) - less)
    other.snapshot = lake.snapshot
    assert other.engine.explain(other.prepare(SUM)).scans[0].sources == f"from {said}"


@pytest.mark.parametrize(("more", "said"), [(0, "2 objects to fetch, 1 object in place"), (-2, "3 objects in place")])
def test_a_scan_copies_half_of_the_cache_at_most(stored: Callable[..., StoredLake], more: int, said: str) -> None:
    lake = stored()
    sizes = [written(lake.put(name, numbers(0))).size_bytes for name in ("a", "b")]
    lake.put("large", numbers(0, 10_000))
    other = stored(object_cache_object_bytes=20_000, object_cache_bytes=2 * sum(sizes) + more)
    other.snapshot = lake.snapshot
    assert other.engine.explain(other.prepare(SUM)).scans[0].sources == f"from {said}"


class TestOneLargerObject:
    """An object that is read in place keeps no other one from being copied."""

    @pytest.fixture
    def lake(self, stored: Callable[..., StoredLake]) -> StoredLake:
        lake = stored(object_cache_object_bytes=20_000)
        for number in range(5):
            lake.put(str(number), numbers(number))
        lake.put("large", numbers(0, 10_000))
        return lake

    def test_others_are_copied(self, lake: StoredLake, wire: Recorded) -> None:
        expected = [{"n": sum(range(10_000)) + sum(sum(range(n, n + 10)) for n in range(5))}]
        assert lake.engine.explain(lake.prepare(SUM)).scans[0].sources == "from 5 objects to fetch, 1 object in place"
        assert lake.rows(SUM) == expected
        found = lake.engine.explain(lake.prepare(SUM))
        assert found.summary().endswith(" bytes, from 5 local copies, 1 object in place")
        wire.requests.clear()
        assert lake.rows(SUM) == expected
        assert wire.requests
        assert all("p%3Dlarge/" in request or "p=large/" in request for request in wire.requests)
        wire.requests.clear()
        assert len(lake.rows(f"SELECT p, x + 0 FROM {T} WHERE p < 'a'")) == 50
        assert wire.requests == []

    def test_the_time_of_requests_is_that_of_the_object_in_place(self, lake: StoredLake) -> None:
        lake.rows(SUM)
        batches = lake.engine.run(lake.prepare(SUM), result_cache=False)
        while batches.next() is not None:
            pass
        assert isinstance(batches, Execution)
        waits = [
            sum(found.sum_by_name(name) or 0 for name in ("time_elapsed_opening", "time_elapsed_scanning_until_data"))
            for plan in batches._execution_context.in_place
            for _, found in plan.collect_metrics()
            if found.sum_by_name("bytes_scanned") is not None
        ]
        assert len(waits) == 2
        # The comparison with the event is one more request.
        in_place_s = batches.requests_s - batches._execution_context.spent.seconds
        assert 0 < in_place_s < (sum(waits) - min(waits) / 2) / 1e9

    @pytest.mark.parametrize("name", ["3", "large"])
    def test_each_is_compared_with_its_event(self, lake: StoredLake, name: str) -> None:
        event = lake.put(name, numbers(7, 10_000 if name == "large" else 10), logged=False)
        with pytest.raises(StaleObjectError, match=rf"p={name}/data.parquet .* has changed since its event"):
            lake.rows(SUM)
        lake.fold([event])
        assert len(lake.rows(f"SELECT x + 0 FROM {T}")) == 10_050

    def test_a_join_reads_copies_and_objects_in_place(self, lake: StoredLake) -> None:
        sql = f"SELECT count(*) AS n FROM {T} a JOIN {T} b ON a.x + 0 = b.x + 0 WHERE b.p = '3'"
        assert lake.rows(sql) == [{"n": 10 + sum(len({*range(n, n + 10)} & {*range(3, 13)}) for n in range(5))}]

    @pytest.mark.parametrize("parallelism", [1, 2])
    def test_a_limit_is_one_for_both_kinds(self, stored: Callable[..., StoredLake], parallelism: int) -> None:
        lake = stored(object_cache_object_bytes=20_000, parallelism=parallelism)
        for name, rows in (("0", 10), ("large", 10_000), ("z", 10)):
            lake.put(name, numbers(0, rows))
        for limit in (5, 15, 10_005, 10_015, 10_025):
            assert len(lake.rows(f"SELECT x FROM {T} LIMIT {limit}")) == min(limit, 10_020)
            counted = lake.rows(f"SELECT count(*) AS n FROM (SELECT x FROM {T} WHERE p >= '0' LIMIT {limit})")
            assert counted == [{"n": min(limit, 10_020)}]


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


def written(event: Materialization) -> DataFile:
    assert isinstance(event.file, DataFile)
    return event.file


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


@pytest.mark.parametrize("method", ["put", "pinned"])
def test_a_full_disk_only_costs_speed(
    stored: Callable[..., StoredLake], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    lake = stored()
    lake.put("a", numbers(0))
    lake.put("b", numbers(0))
    monkeypatch.setattr(Copies, method, full)

    assert lake.rows(SUM) == [{"n": 90}]


def test_copies_can_be_turned_off(stored: Callable[..., StoredLake]) -> None:
    lake = stored(object_cache_dir="none")
    lake.put("a", numbers(0))

    assert lake.rows(SUM) == [{"n": 45}]
    assert not (lake.root / "state/objects").exists()


FOLDERS = ["!$&'()", "+,:;=@]^|", ' "#%<>\\`{}~', "ü日%41", "*", "?", "["]


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_may_have_any_name(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A folder for templates that DataFusion calls otherwise would leave every table empty."""
    folder = tmp_path / f"a{name}b"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    try:
        lake = StoredLake(folder, server, server.endpoint)
        lake._prefix = tmp_path.name
        lake.put("a", numbers(0))
        for _ in range(2):
            assert lake.rows(SUM) == [{"n": 45}]
        staged = f"WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 2) SELECT x FROM {T}, r"
        assert len(lake.rows(staged)) == 20
    except SettingsError:
        assert name in ("*", "?", "[")
    else:
        assert list(folder.glob("state/objects/objects/*/*"))
        lake.engine.close()


def test_a_limit_reads_as_many_files_as_it_needs(stored: Callable[..., StoredLake], wire: Recorded) -> None:
    lake = stored()
    for number in range(20):
        lake.put(str(number), numbers(number))
    wire.requests.clear()

    assert len(lake.rows(f"SELECT x FROM {T} LIMIT 15")) == 15
    assert len(wire.requests) == 2
    assert [scan.count for scan in lake.prepare(f"SELECT x FROM {T} LIMIT 15").scans] == [2]


def test_plans_name_objects_and_not_their_copies(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    lake.put("a", numbers(0))
    prepared = lake.prepare(SUM)

    assert f"{lake._prefix}/p=a/data.parquet" in prepared.shown(prepared.physical.display_indent())


def test_an_object_name_in_a_result_is_the_store_s(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    lake.put("a", numbers(0))

    (row,) = lake.rows(f"SELECT DISTINCT input_file_name() AS name FROM {T}")
    assert row["name"].endswith(f"{lake._prefix}/p=a/data.parquet")
