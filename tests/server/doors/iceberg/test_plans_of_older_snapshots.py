"""Plans of older snapshots: the files that a client's own planning finds, as long as the table offers the snapshot."""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyiceberg.catalog.rest.response import ErrorResponse
from pyiceberg.catalog.rest.scan_planning import PlanCompleted, ScanTasks

from dagfusion_client.errors import EnvironmentUnavailableError
from dagfusion_interop.iceberg import scan_plan
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.iceberg.scan_plan import TableSnapshot
from dagfusion_query import connect
from dagfusion_server.doors.iceberg import older_snapshots
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from dagfusion_server.doors.iceberg.older_snapshots import OlderSnapshots
from tests.interop.iceberg.reading import folded, opened, publish
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.lake import PATIENCE_S, PLACES, Following, Lake, event_of, loaded, rows_of
from tests.server.doors.iceberg.openapi import validated
from tests.server.doors.iceberg.remembering import Remembering, parts

FILTERS = ("place = 'x=1'", "place > 'a' AND n > 1", "n = 1", "n >= 1099511627776", "n IS NULL", "NOT place IN ('ü')")


def test_plans_have_the_files_and_rows_of_the_client_s_own_planning(
    lake: Lake, write: Callable[..., None], name: str
) -> None:
    """Partitions are rewritten, and columns are added, widened and dropped."""
    write(PLACES, n=1, gone="x")
    write(PLACES[1:2], n=2**40, more=1.5)
    write(PLACES, n=2**41)
    table = f"uat_default.{name}"
    own, planned = loaded(lake, table, 3), lake.planning().load_table(table)
    with connect(settings=lake.variables) as connection:
        for snapshot in own.snapshots():
            for text in FILTERS:
                one, other = (some.scan(text, snapshot_id=snapshot.snapshot_id) for some in (own, planned))
                found, expected = ({task.file.file_path for task in scan.plan_files()} for scan in (other, one))
                assert found == expected, text
                answer = connection.sql(f"SELECT n, place FROM {table} WHERE {text}", as_of=event_of(snapshot))
                assert rows_of(other.to_arrow().select(["n", "place"])) == rows_of(answer.to_arrow()), text


@contextmanager
def another_service(lake: Lake) -> Iterator[str]:
    """A service that has written nothing yet, over the same folder of metadata."""
    service = Following(lake.environments)
    routes = IcebergRoutes(service, lake.config, lake.tokens)
    with (
        validated(routes.mounts()) as pages,
        serving(service, lake.tokens, lake.config.service, pages=pages) as door,
    ):
        yield f"{door.url}/iceberg"


def test_names_and_pages(lake: Lake, write: Callable[..., None], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page may come from another service. The client says of which schema a filter's names are."""
    monkeypatch.setattr(scan_plan, "PAGE_FILES", 2)
    write(PLACES, n=1, gone="x")
    write(PLACES[:1], n=2, more=1.5)
    write(PLACES, n=3, more=1.5)
    first = loaded(lake, f"uat_default.{name}", 3).snapshots()[0].snapshot_id
    path = f"v1/namespaces/uat_default/tables/{name}"

    def plan(url: str, term: str, **options: Any) -> httpx.Response:
        is_null = {"type": "is-null", "term": term}
        request = {"snapshot-id": first, "filter": {"type": "not", "child": is_null}, **options}
        return httpx.post(f"{url}/{path}/plan", json=request, trust_env=False)

    with another_service(lake) as url:
        page = PlanCompleted.model_validate_json(plan(lake.url, "place").text)
        (token,) = page.plan_tasks
        rest = ScanTasks.model_validate_json(
            httpx.post(f"{url}/{path}/tasks", json={"plan-task": token}, trust_env=False).text
        )
        assert (len(page.file_scan_tasks), len(rest.file_scan_tasks), rest.plan_tasks) == (2, 1, [])
        for term, statuses in {"gone": (200, 200), "more": (200, 400), "never": (400, 400)}.items():
            for is_used, status in zip((False, True), statuses, strict=True):
                answer = plan(url, term, **{"use-snapshot-schema": is_used})
                assert answer.status_code == status, (term, is_used)
                if status == 200:
                    assert len(answer.json()["file-scan-tasks"]) == 2
                else:
                    assert ErrorResponse.model_validate_json(answer.text).error.type == "BadRequestException"


def found_snapshot(service: Remembering, publisher: Publisher, snapshot_id: int, kept_hours: float = 24) -> Any:
    current = publish(publisher, folded(service.states[-1], {"p": "string"}))
    return asyncio.run(OlderSnapshots(service, kept_hours).find(publisher, current, snapshot_id))


def test_only_what_is_offered_is_planned(publisher: Publisher) -> None:
    service = Remembering([parts(1), parts(2), parts(3)], ages=[30, 20, 1])
    current = publish(publisher, folded(parts(3), {"p": "string"}))
    found = asyncio.run(OlderSnapshots(service, 24).with_them(current, publisher))
    first, second, third = (one.snapshot_id for one in opened(found).snapshots())
    found = found_snapshot(service, publisher, second)
    assert isinstance(found, TableSnapshot)
    assert (found.snapshot_id, found.table.files["partition_key"].to_pylist()) == (second, ["S0", "S1"])
    assert isinstance(found_snapshot(service, publisher, first), TableSnapshot)
    assert found_snapshot(service, publisher, first, kept_hours=10) is None
    assert found_snapshot(service, publisher, third) is None  # the current one
    service.states[1] = [*parts(1), *parts(1)]  # events were deleted
    assert found_snapshot(service, publisher, second) is None


def test_plans_wait_for_what_is_sought_and_say_why_it_is_not_known(publisher: Publisher) -> None:
    """The search was begun for an earlier version of the table."""
    service = Remembering([parts(1), parts(2), parts(3)], ages=[3, 2, 1])
    before, now = (publish(publisher, folded(parts(count), {"p": "string"})) for count in (2, 3))
    older = OlderSnapshots(service, 24)

    async def both() -> TableSnapshot | None:
        loading = asyncio.create_task(older.with_them(before, publisher))
        await asyncio.sleep(0)
        found = await older.find(publisher, now, before.snapshot_id)
        await loading
        return found

    found = asyncio.run(both())
    assert found is not None
    assert found.snapshot_id == before.snapshot_id
    service.error = EnvironmentUnavailableError("the database is down")
    with pytest.raises(EnvironmentUnavailableError, match="the database is down"):
        found_snapshot(service, publisher, before.snapshot_id)


def test_a_search_that_failed_is_an_answer_at_once(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is over before it is there; and each request raises an error of its own."""
    monkeypatch.setattr(older_snapshots, "_RETRY_S", -1.0)
    service = Remembering([parts(1), parts(2), parts(3)], ages=[3, 2, 1])
    service.error = EnvironmentUnavailableError("the database is down")
    current = publish(publisher, folded(parts(3), {"p": "string"}))
    older = OlderSnapshots(service, 24)

    async def ask() -> list[int]:
        depths = []
        for _ in range(3):
            with pytest.raises(EnvironmentUnavailableError) as raised:
                await older.find(publisher, current, 7)
            depths.append(len(traceback.extract_tb(raised.value.__traceback__)))
        return depths

    depths = asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    assert len({*depths}) == 1


def test_a_version_that_is_written_keeps_no_plan_waiting(publisher: Publisher) -> None:
    published = publish(publisher, folded(parts(1), {"p": "string"}))
    entry = publisher._metadata_of(published.table.name)
    with entry.lock, ThreadPoolExecutor(1) as other:
        known = other.submit(publisher.recent, published.table.name, published.snapshot_id)
        assert known.result(PATIENCE_S) is published


def test_a_snapshot_knows_its_events(publisher: Publisher) -> None:
    """An event between the first and the last, of the same bytes and rows, is deleted."""
    published = publish(publisher, folded(parts(3), {"p": "string"}))
    written, table, files = published.snapshot, published.table, published.table.files
    other = pa.array([n - 1 if at == 1 else n for at, n in enumerate(files["event_id"].to_pylist())])
    assert written.is_of(table)
    place = files.schema.get_field_index("event_id")
    assert not written.is_of(replace(table, files=files.set_column(place, "event_id", other)))


def test_few_planned_snapshots_are_kept(publisher: Publisher) -> None:
    states = [parts(count) for count in range(1, 8)]
    service = Remembering(states, ages=[*range(len(states), 0, -1)])
    current = publish(publisher, folded(states[-1], {"p": "string"}))
    older = OlderSnapshots(service, 24)

    async def all_of_them() -> int:
        ids = [one.version.snapshot_id for one in (await older.with_them(current, publisher)).older]
        reads = service.reads
        for snapshot_id in [*ids, ids[-1]]:
            assert await older.find(publisher, current, snapshot_id) is not None
        assert len(ids) == 6
        assert len(older._table_snapshots) < len(ids)
        return service.reads - reads

    assert asyncio.run(all_of_them()) == 6
