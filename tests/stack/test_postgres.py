"""The embedded PostgreSQL: private, durable, and running wherever its folder is."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from dagfusion_stack import postgres, process
from dagfusion_stack.errors import ServerError

pytestmark = pytest.mark.usefixtures("processes")


def ask(server: postgres.Postgres, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    with psycopg.connect(server.url(database)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_rows_outlive_the_server(tmp_path: Path) -> None:
    with postgres.running(tmp_path) as server:
        server.create_database("kept")
        ask(server, "create table t as select 42 as answer", "kept")
    with postgres.running(tmp_path) as server:
        server.create_database("kept")
        assert ask(server, "select answer from t", "kept") == [(42,)]


def test_any_name_of_a_database_does(tmp_path: Path) -> None:
    name = 'o\'dd "name"'
    with postgres.running(tmp_path) as server:
        server.create_database(name)
        assert (name,) in ask(server, "select datname from pg_database")


def test_only_the_owner_reaches_it(tmp_path: Path) -> None:
    with postgres.running(tmp_path) as server:
        listening = psutil.Process(server.child.process.pid).net_connections("inet")
        assert listening == []
        assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["x" * 120, "with space", "comma,quote'\"", "größe"])
def test_a_folder_whose_path_no_socket_can_have(tmp_path: Path, name: str) -> None:
    with postgres.running(tmp_path / name) as server:
        assert ask(server, "select 1") == [(1,)]
        sockets = server.socket_folder
        assert not sockets.is_relative_to(tmp_path)
    assert not sockets.exists()


def test_a_pid_file_that_names_another_process_is_stale(tmp_path: Path) -> None:
    with postgres.running(tmp_path):
        lines = (tmp_path / "data" / "postmaster.pid").read_text().splitlines()
    (tmp_path / "data" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with postgres.running(tmp_path) as server:
        assert ask(server, "select 1") == [(1,)]


def test_data_of_another_version_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    with postgres.running(tmp_path):
        pass
    (tmp_path / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError, match=r"(?s)PostgreSQL ended .*FATAL.*server\.log"):
        postgres.start(tmp_path)


def test_it_outlives_the_process_that_started_it_and_is_found(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from dagfusion_stack import postgres; postgres.start(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
    found = process.marked(tmp_path)
    assert set(found.values()) == {postgres.NAME}
    process.end(found, postgres.STOP_SIGNAL, timeout_s=15)
    assert process.marked(tmp_path) == {}
    assert "database system is shut down" in (tmp_path / "server.log").read_text()


def test_a_start_that_fails_leaves_no_folder_for_its_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    with postgres.running(folder) as server:
        sockets = server.socket_folder
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError):
        postgres.start(folder)
    assert not sockets.exists()
