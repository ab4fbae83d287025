"""Two services over one state folder, one of which is killed: each sees every materialization, and no row is lost."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from tests.server.processes.conftest import materialization
from tests.server.processes.process import START_S, Server, served
from tests.waiting import eventually

TABLE = "local_silver_tax_id.orgs"
COUNTED = f"SELECT count(*) AS rows, count(DISTINCT state) AS states FROM {TABLE}"
SUMMED = f"SELECT count(id) AS rows, max(id) AS newest FROM {TABLE}"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def answer(server: Server, sql: str) -> dict[str, int]:
    with server.client() as client:
        response = client.post("/v1/sql", json={"sql": sql, "format": "json"})
    assert response.status_code == 200, response.text
    columns, (row,) = response.json()["columns"], response.json()["rows"]
    return dict(zip((column["name"] for column in columns), row, strict=True))


def test_services_with_one_state_folder_are_both_fresh(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    written = 0

    def write() -> None:
        nonlocal written
        path = lake / f"{written}.parquet"
        instance.report_runless_asset_event(materialization("orgs", path, f"S{written}", first=1000 * written))
        written += 1

    def is_fresh(server: Server) -> bool:
        counted, summed = answer(server, COUNTED), answer(server, SUMMED)
        return counted == {"rows": 1000 * written, "states": written} and summed == {
            "rows": 1000 * written,
            "newest": 1000 * written - 1,
        }

    def start(name: str) -> ExitStack:
        folder = tmp_path / name
        folder.mkdir()
        stack = ExitStack()
        home = str(tmp_path / "dagster_home")
        servers[name] = stack.enter_context(
            served(folder, "--dagster-home", home, variables={"DAGFUSION_STATE_DIR": str(tmp_path / "state")})
        )
        return stack

    servers: dict[str, Server] = {}
    write()
    with ExitStack() as running:
        for name in ("first", "second"):
            running.enter_context(start(name))
        for _ in range(4):
            write()
            for server in (*servers.values(), *servers.values()):  # each has two workers
                assert eventually(partial(is_fresh, server), START_S)
        killed = servers.pop("first")
        killed.process.kill()
        killed.process.wait()
        write()
        running.enter_context(start("third"))
        for _ in range(3):
            write()
            for server in (*servers.values(), *servers.values()):
                assert eventually(partial(is_fresh, server), START_S)
