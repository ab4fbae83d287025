"""The engine of a statement, chosen through every door of a service that has no Spark Connect server."""

import pytest

from dagfusion_client.errors import EngineChoiceError
from dagfusion_query import Connection
from tests.server.doors.conftest import Doors
from tests.server.doors.doors import AdbcDoor, CommandLine
from tests.server.processes.process import Server

SQL = "SELECT count(*) AS n FROM local_silver_tax_id.orgs"
HEADER = "adbc.flight.sql.rpc.call_header.dagfusion-engine"


@pytest.mark.parametrize("engine", [None, "local", "auto"])
def test_workers_run_what_chooses_no_server(connection: Connection, engine: str | None) -> None:
    assert connection.sql(SQL, engine=engine).to_arrow().to_pydict() == {"n": [3000]}


def test_spark_needs_a_server(connection: Connection) -> None:
    with pytest.raises(EngineChoiceError, match=r'engine="spark" needs .*engine="local"'):
        connection.sql(SQL, engine="spark").to_arrow()


def test_an_unknown_engine_is_refused(connection: Connection) -> None:
    with pytest.raises(EngineChoiceError, match="engine must be one of local, spark, auto, got 'duckdb'"):
        connection.sql(SQL, engine="duckdb").to_arrow()


@pytest.mark.parametrize("name", ["cli", "cli-http", "cli-flight"])
def test_the_command_line_can_choose(doors: Doors, name: str) -> None:
    door = doors.open(name)
    assert isinstance(door, CommandLine)
    assert door.run("sql", SQL, "--engine=local", "--format=csv").out == b"n\r\n3000\r\n"
    refused = door.run("sql", SQL, "--engine=spark")
    assert (refused.code, "engine=" in refused.err) == (1, True)


def test_a_header_of_adbc_chooses(doors: Doors) -> None:
    door = doors.open("adbc")
    assert isinstance(door, AdbcDoor)
    with door._connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{HEADER: "spark"})
        with pytest.raises(Exception, match="DAGFUSION_SPARK_REMOTE"):
            cursor.execute(SQL)


def test_a_request_can_choose(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", json={"sql": SQL, "format": "json", "engine": "spark"})
        assert (answer.status_code, answer.json()["code"]) == (400, "engine_choice")
        answer = client.post("/v1/sql", json={"sql": SQL, "engine": "duckdb"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert "engine must be one of local, spark, auto" in answer.json()["detail"]
