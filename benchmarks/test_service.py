"""The service's own costs: what a door and a worker add to a query, how fast results leave, and many clients."""

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from pyarrow import flight

import dagfusion_query
from benchmarks import service
from benchmarks.conftest import Findings
from benchmarks.dataset import TABLE, Dataset
from benchmarks.service_section import BARE
from benchmarks.workload import DATE_QUERY, POINT, STATE_QUERY
from dagfusion_stack import ports

ROUNDS = 200
ROWS, COLUMNS = 15_625_000, 8  # of 8 bytes: 1 GB, of which the engine makes one column, so that its own work is small
_VALUES = ", ".join(f"value AS v{number}" for number in range(COLUMNS))
LARGE = f"SELECT {_VALUES} FROM generate_series(1, {ROWS})"
CLIENTS = 200


@pytest.fixture(scope="module")
def server(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[service.Server]:
    with service.serving(data.place.variables, tmp_path_factory.mktemp("service")) as running:
        yield running


def test_what_door_and_worker_add_to_a_point_query(
    server: service.Server,
    data: Dataset,
    answers: dict[str, list[tuple[object, ...]]],
    findings: Findings,
    tmp_path: Path,
) -> None:
    sql = POINT.sql.format(table=TABLE)
    raw = http.client.HTTPConnection(ports.LOOPBACK, server.http_port)
    with (
        dagfusion_query.connect(settings={**data.place.variables, **service.NO_RESULTS}) as embedded,
        dagfusion_query.connect(server.http) as over_http,
        dagfusion_query.connect(server.flight) as over_flight,
        flight_sql.connect(server.flight, autocommit=True) as over_adbc,
        over_adbc.cursor() as kept,
        service.bare_door({**data.place.variables, **service.NO_RESULTS}) as bare_port,
        contextlib.closing(http.client.HTTPConnection(ports.LOOPBACK, bare_port)) as bare,
        contextlib.closing(raw),
    ):
        asked = {"embedded": embedded, "HTTP client": over_http, "Flight client": over_flight}
        for connection in asked.values():
            assert connection.sql(sql).to_arrow().num_rows == len(answers[POINT.name])
        functions = {
            name: (lambda connection=connection: connection.sql(sql).to_arrow()) for name, connection in asked.items()
        }

        def adbc(connection: flight_sql.Connection = over_adbc) -> pa.Table:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetch_arrow_table()

        assert adbc().num_rows == len(answers[POINT.name])

        def adbc_again() -> pa.Table:
            kept.execute(sql)
            return kept.fetch_arrow_table()

        doors = {
            **functions,
            "HTTP, raw": lambda: service.ask(raw, sql),
            BARE: lambda: service.ask(bare, sql),
            "Flight SQL, ADBC": adbc,
            "Flight SQL, ADBC, cursor kept": adbc_again,
        }
        assert service.ask(bare, sql).size_bytes > 0
        findings["service_point_s"] = service.in_turns(doors, ROUNDS)
        own = {name: door for name, door in doors.items() if name != BARE}
        findings["service_point_processor_s"] = service.processor_time(own, server, ROUNDS)
        with service.beside_dagster(data.home, data.place.variables):
            for idle in (raw, bare):
                idle.close()  # and is opened again: the server may have closed it while Dagster started
            findings["service_point_beside_dagster_s"] = service.in_turns(doors, ROUNDS)
        with (
            service.immediate_answers(adbc(), tmp_path) as url,
            flight_sql.connect(url, autocommit=True) as alone,
            flight.connect(url) as client,
        ):
            calls = {"ADBC": lambda: adbc(alone), "pyarrow": lambda: service.call_as_adbc_does(client)}
            findings["service_driver_alone_s"] = service.in_turns(calls, ROUNDS)


def test_what_a_kept_result_adds_to_the_door(data: Dataset, findings: Findings, tmp_path: Path) -> None:
    kept = {"DAGFUSION_RESULT_CACHE_DIR": str(tmp_path / "results")}
    with (
        service.serving(data.place.variables, tmp_path, kept) as server,
        contextlib.closing(http.client.HTTPConnection(ports.LOOPBACK, server.http_port)) as raw,
    ):
        state = STATE_QUERY.sql.format(table=TABLE)
        first = service.ask(raw, state)
        assert service.ask_door(raw).status == http.client.OK
        asked = {
            "no worker": lambda: service.ask_door(raw),
            "SELECT 1": lambda: service.ask(raw, "SELECT 1"),
            "state, kept": lambda: service.ask(raw, state),
        }
        findings["service_kept_result_s"] = service.in_turns(asked, ROUNDS)
        assert service.ask(raw, state) == first


def test_a_large_result(server: service.Server, findings: Findings) -> None:
    flat = server.rss_mb()

    def over_http() -> int:
        with contextlib.closing(http.client.HTTPConnection(ports.LOOPBACK, server.http_port)) as raw:
            answer = service.ask(raw, LARGE)
        assert answer.status == http.client.OK
        assert answer.size_bytes > 8 * COLUMNS * ROWS
        return answer.size_bytes

    def over_adbc() -> int:
        with flight_sql.connect(server.flight, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(LARGE)
            rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
        assert rows == ROWS
        return 8 * COLUMNS * ROWS

    findings["service_rate_mb_s"] = {
        "HTTP": service.rate_mb_s(over_http),
        "Flight SQL, ADBC": service.rate_mb_s(over_adbc),
    }
    findings["service_large_rss_mb"] = {"before": flat, "after": server.rss_mb()}


def test_many_clients_at_once(server: service.Server, pytestconfig: pytest.Config, findings: Findings) -> None:
    statements = [POINT.sql.format(table=TABLE), DATE_QUERY.sql.format(table=TABLE), f"SELECT count(*) FROM {TABLE}"]
    seconds: float = pytestconfig.getoption("--soak")
    found = service.soak(server, statements, CLIENTS, seconds)
    assert set(found["answers"]) <= {"200", "429"}
    assert found["answers"]["200"] > 0
    assert (found["refused_without_retry"], found["wrong_sizes"]) == (0, 0)
    findings["service_soak"] = found
