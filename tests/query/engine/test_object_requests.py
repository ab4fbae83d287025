"""Requests for the objects of a store: each is fetched once into a copy, or read in place."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dagfusion_client.errors import SettingsError, StaleObjectError
from dagfusion_contract.record import DataFile
from dagfusion_query.engine.plan_execution import Batches, Execution
from dagfusion_query.object_cache.copies import Copies, CopyUse
from dagfusion_stack.object_store import ObjectStore
from tests.e2e.wire import Recorded
from tests.query.engine.stored_lake import SUM, StoredLake, T, numbers, server, stored, wire, written

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


def test_the_scans_of_a_statement_copy_half_of_the_cache_together(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    sizes = [written(lake.put(name, numbers(0))).size_bytes for name in ("a", "b")]
    one = stored(object_cache_bytes=2 * max(sizes))
    one.snapshot = lake.snapshot

    def copies(*names: str) -> int:
        scans = [f"(SELECT x AS x{number} FROM {T} WHERE p = '{name}')" for number, name in enumerate(names)]
        every = " + ".join(f"x{number}" for number in range(len(names)))
        prepared = one.prepare(f"SELECT count(*) AS n FROM {' CROSS JOIN '.join(scans)} WHERE {every} >= 0")
        batches = one.engine.run(prepared, result_cache=False)
        assert [row for batch in iter(batches.next, None) for row in batch.to_pylist()] == [{"n": 10 ** len(names)}]
        return batches.copies.found + batches.copies.fetched

    assert copies("a", "a", "a") == 1, "what several scans read counts once"
    assert copies("b", "a") == 1, "the other is read in place"
    assert [copies(name) for name in "ab"] == [1, 1], "each statement has a budget of its own"


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
    def test_a_limit_is_one_for_both_kinds(
        self, stored: Callable[..., StoredLake], wire: Recorded, parallelism: int
    ) -> None:
        lake = stored(object_cache_object_bytes=20_000, parallelism=parallelism)
        for name, rows in (("0", 10), ("large", 10_000), ("z", 10)):
            lake.put(name, numbers(0, rows))
        for limit, sources in ((5, "from 1 local copy"), (15, "from 1 local copy, 1 object in place")):
            sql = f"SELECT x FROM {T} LIMIT {limit}"
            lake.rows(sql)
            assert lake.engine.explain(lake.prepare(sql)).scans[0].sources == sources
            wire.requests.clear()
            assert len(lake.rows(f"SELECT x + 0 FROM {T} LIMIT {limit}")) == limit
            assert all("p%3Dlarge/" in request or "p=large/" in request for request in wire.requests)
            assert bool(wire.requests) == (limit > 10)
        some = f"(SELECT x FROM {T} LIMIT 12 OFFSET 4)"
        both = f"SELECT count(*) AS n FROM (SELECT x FROM {T} LIMIT 15) a CROSS JOIN {some} b"
        assert lake.rows(both) == [{"n": 15 * 12}]
        united = f"SELECT x FROM (SELECT x FROM {T} LIMIT 15) UNION ALL SELECT x FROM (SELECT x FROM {T} LIMIT 12)"
        assert len(lake.rows(united)) == 15 + 12
        for limit in (5, 15, 10_005, 10_015, 10_025):
            assert len(lake.rows(f"SELECT x FROM {T} LIMIT {limit}")) == min(limit, 10_020)
            counted = lake.rows(f"SELECT count(*) AS n FROM (SELECT x FROM {T} WHERE p >= '0' LIMIT {limit})")
            assert counted == [{"n": min(limit, 10_020)}]


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
