"""Kept results of a real service: all workers and doors share them, stats report them, and grants still hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import dagfusion_query
from dagfusion_client.errors import UnknownTableError
from tests.server.processes.process import Server, run, served
from tests.waiting import eventually

TABLE = "local_silver_tax_id.orgs"
SUM = f"SELECT state, sum(id) AS n FROM {TABLE} GROUP BY state ORDER BY state"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path, dagster_home: Path) -> Iterator[Server]:
    kept = {"DAGFUSION_RESULT_CACHE_DIR": str(folder / "results")}
    with served(folder, "--dagster-home", str(dagster_home), variables=kept) as server:
        yield server


def ask(server: Server, token: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/csv"}
    return httpx.post(f"{server.url}/v1/sql", json=body, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    """Two access tokens: `all` grants every table, and `other` grants only the table `orders`."""
    grants = {"all": "*", "other": "local_silver_tax_id.orders"}
    return {
        name: run(folder, "token", "create", name, "--grant", grant).stdout.strip() for name, grant in grants.items()
    }


def path(answer: httpx.Response) -> str:
    return str(httpx.Response(200, text=answer.headers["DagFusion-Stats"]).json()["path"])


def test_every_door_has_the_kept_result(server: Server, tokens: dict[str, str]) -> None:
    first = ask(server, tokens["all"], sql=SUM)
    assert eventually(lambda: path(ask(server, tokens["all"], sql=SUM)) == "cache")

    kept = ask(server, tokens["all"], sql=SUM)
    stats = httpx.Response(200, text=kept.headers["DagFusion-Stats"]).json()
    assert kept.text == first.text
    assert (stats["files_total"], stats["files_read"], stats["bytes_read"]) == (3, 0, 0)
    for url in (server.url, server.flight_url):
        with dagfusion_query.connect(url, token=tokens["all"], settings={}) as connection:
            result = connection.sql(SUM)
            assert result.to_arrow().num_rows == 3
            assert (result.stats.path, result.stats.files_read, result.stats.files_skipped) == ("cache", 0, 3)
    told = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {tokens['all']}"}, trust_env=False)
    counted = [line for line in told.text.splitlines() if line.startswith('dagfusion_results_total{cache="hit"}')]
    assert float(counted[0].split()[1]) >= 4


def test_a_caller_can_do_without(server: Server, tokens: dict[str, str]) -> None:
    assert eventually(lambda: path(ask(server, tokens["all"], sql=SUM)) == "cache")
    assert path(ask(server, tokens["all"], sql=SUM, result_cache=False)) == "splice"
    refused = ask(server, tokens["all"], sql=SUM, result_cache="no")
    assert (refused.status_code, refused.json()["detail"]) == (400, 'result_cache must be true or false, got "no"')


def test_a_kept_result_is_for_who_may_read_its_tables(server: Server, tokens: dict[str, str]) -> None:
    assert eventually(lambda: path(ask(server, tokens["all"], sql=SUM)) == "cache")
    refused = ask(server, tokens["other"], sql=SUM)
    assert refused.json()["code"] == UnknownTableError.code
    with (
        dagfusion_query.connect(server.flight_url, token=tokens["other"], settings={}) as connection,
        pytest.raises(UnknownTableError),
    ):
        connection.sql(SUM)
