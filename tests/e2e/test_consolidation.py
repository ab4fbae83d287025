"""Consolidated tables: the same answers while partitions are rewritten, wiped, added and consolidated, whatever fails.

`DAGFUSION_KILLS` is how often a consolidation and a vacuum are killed.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import pytest

from benchmarks.wire import metered
from dagfusion_pipeline import wipe_partitions
from dagfusion_pipeline.erase import Erasure, erase_rows
from dagfusion_pipeline.erasure_keys import Keys
from dagfusion_pipeline.logged_files import LoggedConsolidation, logged_consolidations
from dagfusion_pipeline.store import ObjectStore
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_stack import object_store, postgres
from tests.e2e.consolidation import DAYS, KEY, ROWS, STATES, TABLE, TARGET_BYTES, Readings, consolidate_small, repeating
from tests.e2e.vacuuming import large_objects, small_objects, vacuum_one_by_one, vacuumed

BUCKET = "lake"
NUMBERS = itertools.count()
KILLS = int(os.environ.get("DAGFUSION_KILLS", "3"))


@pytest.fixture(scope="module")
def store(server_folder: Callable[[str], Path]) -> Iterator[object_store.ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as running:
        yield running


@pytest.fixture(scope="module")
def database(server_folder: Callable[[str], Path]) -> Iterator[postgres.Postgres]:
    server = postgres.start(server_folder("postgres"))
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "dagster"
    folder.mkdir()
    lines = ["telemetry: {enabled: false}", "python_logs: {python_log_level: ERROR}"]
    if request.param == "postgres":
        server = request.getfixturevalue("database")
        name = f"consolidation{next(NUMBERS)}"
        server.create_database(name)
        url = server.url(name).replace("postgresql://", "postgresql+psycopg2://", 1)
        lines.append(f'storage: {{postgres: {{postgres_url: "{url}"}}}}')
    (folder / "dagster.yaml").write_text("\n".join(lines))
    return folder


@pytest.fixture
def fields(store: object_store.ObjectStore, request: pytest.FixtureRequest) -> dict[str, Any]:
    environ = store.environ()
    return {
        "bucket": BUCKET,
        "prefix": request.node.name.replace("[", "-").replace("]", ""),
        "endpoint_url": store.endpoint,
        "region": environ["AWS_REGION"],
        "access_key_id": environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": environ["AWS_SECRET_ACCESS_KEY"],
        "file_naming": getattr(request, "param", "stable"),
    }


@pytest.fixture
def readings(home: Path, fields: dict[str, Any]) -> Iterator[Readings]:
    """All partitions in their first version."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        made = Readings(instance, fields)
        made.write(STATES, DAYS)
        yield made


@pytest.fixture
def connected(home: Path, store: object_store.ObjectStore, tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def connect(**variables: str) -> Iterator[EmbeddedConnection]:
        own = {"DAGFUSION_STATE_DIR": str(tmp_path / "state"), "DAGFUSION_RESULT_CACHE_DIR": "none"}
        settings: Mapping[str, str] = {**store.environ(), **own, **variables}
        with connect_embedded(str(home), settings=settings) as connection:
            yield connection

    return connect


@pytest.mark.usefixtures("long")
def test_answers_stay_right_while_everything_changes(readings: Readings, connected: Callable[..., Any]) -> None:
    rng = Random(7)  # noqa: S311
    used = []
    with connected() as connection:
        assert readings.check(connection, rng) == [0] * 5
        assert readings.consolidate().partitions == len(STATES) * len(DAYS)
        whole = readings.check(connection, rng)
        assert whole[0] == len(STATES) * len(DAYS)
        assert readings.consolidate().partitions == 0
        for turn in range(6):
            rng.choice([readings.rewrite, readings.wipe_partitions])(rng)
            used += readings.check(connection, rng)
            if turn % 2:
                readings.consolidate()
                used += readings.check(connection, rng)
        assert any(used)
        readings.wipe()
        readings.write(STATES, DAYS)
        assert readings.check(connection, rng) == [0] * 5
        readings.consolidate()
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
    with connected() as connection:  # from the snapshot that was left
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
    with connected(DAGFUSION_STATE_DIR="none", DAGFUSION_OBJECT_CACHE_DIR="none") as connection:  # from a full read
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)


def test_a_rewrite_during_a_consolidation_is_not_in_it(
    readings: Readings, connected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(7)  # noqa: S311
    read = ObjectStore.read_versions
    late: list[bool] = []

    def rewrite_and_read(store: ObjectStore, *args: Any) -> Any:
        if not late:
            late.append(True)
            readings.write(STATES[1:2], DAYS[3:5])
        contents = read(store, *args)
        if len(late) == 1:
            late.append(True)
            readings.write(STATES[2:], DAYS[:1])
        return contents

    monkeypatch.setattr(ObjectStore, "read_versions", rewrite_and_read)
    assert readings.consolidate().partitions == len(STATES) * len(DAYS) - 2
    with connected() as connection:
        used = readings.check(connection, rng)
        assert 0 < used[0] < len(STATES) * len(DAYS)
        readings.consolidate()
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)


@pytest.mark.parametrize("home", ["sqlite"], indirect=True)
def test_a_consolidated_scan_takes_two_requests_an_object_at_most(
    readings: Readings, connected: Callable[..., Any], store: object_store.ObjectStore, tmp_path: Path
) -> None:
    readings.consolidate(target_bytes=TARGET_BYTES)
    objects = large_objects(readings)
    sql = f"SELECT state, sum(x + 0) AS total FROM {TABLE} GROUP BY state"
    with metered(store.endpoint) as meter:
        # A query that waits so long asks the store whether it is there.
        behind = {"AWS_ENDPOINT_URL": meter.endpoint, "DAGFUSION_STORE_STALL_S": "3600"}
        with connected(**behind, DAGFUSION_OBJECT_CACHE_DIR=str(tmp_path / "copies")) as connection:
            connection.refresh()
            assert connection.sql(f"SELECT count(*) AS rows FROM {TABLE}").to_arrow().num_rows == 1
            assert meter.take().requests == {}, "the catalog has the answer"
            assert connection.sql(sql).to_arrow().num_rows == len(STATES)
            cold = meter.take()
            assert {path.removeprefix(f"/{BUCKET}/") for path in cold.objects} <= {*objects}
            assert len(objects) <= sum(cold.requests.values()) <= 2 * len(objects), cold.requests
            assert connection.sql(sql).to_arrow().num_rows == len(STATES)
            assert meter.take().requests == {}, "the copies are there"


@pytest.mark.parametrize("damage", ["gone", "altered", "torn"])
@pytest.mark.parametrize("cache", ["copies", "none"])
def test_a_damaged_large_object_costs_time_only(
    readings: Readings, connected: Callable[..., Any], tmp_path: Path, damage: str, cache: str
) -> None:
    rng = Random(7)  # noqa: S311
    readings.consolidate()
    bucket = readings.manager.object_store
    (logged,) = logged_consolidations(readings.instance, KEY)
    key = logged.objects[0].uri.removeprefix(bucket.uri(""))
    if damage == "gone":
        bucket.delete_objects([key])
    else:
        size = logged.objects[0].size_bytes
        content = b"PAR1" + bytes(size - 4 if damage == "altered" else size // 2)
        bucket.client.put(key, content)
    folder = "none" if cache == "none" else str(tmp_path / "copies")
    with connected(DAGFUSION_OBJECT_CACHE_DIR=folder) as connection:
        connection.refresh()
        readings.check(connection, rng)
        assert readings.check(connection, rng) == [0] * 5  # the next ones do not try again


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("home", ["sqlite"], indirect=True)
def test_a_killed_consolidation_leaves_the_catalog_right(
    readings: Readings, connected: Callable[..., Any], home: Path, fields: dict[str, Any]
) -> None:
    rng = Random()  # noqa: S311
    with connected() as connection:
        for _ in range(KILLS):
            with repeating(consolidate_small, home, fields):
                time.sleep(rng.random() * 1.5)
            readings.check(connection, rng)
            readings.write(STATES, DAYS[:6])
            readings.check(connection, rng)
        readings.consolidate()
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
        vacuumed(readings, kept_s=0)
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
    logged = (keys_of(readings, one) for one in logged_consolidations(readings.instance, KEY))
    assert large_objects(readings).keys() <= set().union(*logged)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("home", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fields", ["per_run"], indirect=True)
def test_a_killed_vacuum_deletes_nothing_that_counts(
    readings: Readings, connected: Callable[..., Any], home: Path, fields: dict[str, Any]
) -> None:
    rng = Random()  # noqa: S311
    with connected() as connection:
        for _ in range(KILLS):
            readings.write(STATES, DAYS)
            consolidate_small(readings)
            before = small_objects(readings)
            with repeating(vacuum_one_by_one, home, fields) as process:
                while small_objects(readings) == before:
                    assert process.is_alive()
                time.sleep(rng.random() / 10)
            assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
    with connected(DAGFUSION_STATE_DIR="none", DAGFUSION_OBJECT_CACHE_DIR="none") as connection:
        vacuumed(readings, kept_s=0)
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)
    assert len(small_objects(readings)) == len(STATES) * len(DAYS)
    newest, *_ = logged_consolidations(readings.instance, KEY)
    assert large_objects(readings).keys() == keys_of(readings, newest)


def keys_of(readings: Readings, logged: LoggedConsolidation) -> set[str]:
    root = readings.manager.object_store.uri("")
    return {one.uri.removeprefix(root) for one in logged.objects}


def test_the_vacuum_keeps_what_queries_read(readings: Readings, connected: Callable[..., Any]) -> None:
    rng = Random(7)  # noqa: S311
    readings.consolidate()
    first = large_objects(readings).keys()
    readings.write(STATES, DAYS[2:4])
    with connected() as connection:
        vacuumed(readings, kept_s=0)
        assert large_objects(readings).keys() == first  # some of its row groups are current
        readings.consolidate()
        second = large_objects(readings).keys() - first
        vacuumed(readings, kept_s=7200)
        assert large_objects(readings).keys() == first | second  # a query may still read it
        vacuumed(readings, kept_s=0)
        assert large_objects(readings).keys() == second
        assert readings.check(connection, rng)[0] == len(STATES) * len(DAYS)


def test_wiped_and_erased_rows_are_gone_with_their_bytes(readings: Readings, connected: Callable[..., Any]) -> None:
    def erase() -> Erasure:
        return erase_rows(readings.instance, readings.manager, KEY, Keys("x", ["7"]), run_id="6f9619ff")

    readings.consolidate()
    wipe_partitions(readings.instance, KEY, [f"{DAYS[0]}|CA"])
    left = len(STATES) * len(DAYS) - 1
    proof = erase()
    assert (proof.rows_removed, len(proof.rewritten)) == (left, left)
    with connected() as connection:
        connection.refresh()
        sql = f"SELECT count(*) AS rows, count(*) FILTER (WHERE x + 0 = 7) AS erased FROM {TABLE}"
        assert connection.sql(sql).to_arrow().to_pylist() == [{"rows": left * (ROWS - 1), "erased": 0}]
    kinds = {one.why.partition(":")[0] for one in proof.still_held}
    assert kinds == {"superseded", "consolidated"}, "the object of the wiped partition, and the large ones"
    vacuumed(readings, kept_s=0)
    assert (erase().rows_removed, erase().still_held) == (0, [])
