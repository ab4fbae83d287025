"""Statements as of the past, through every door: the lake's six events were logged one after another."""

import adbc_driver_flightsql.dbapi as flight_sql
import orjson
import pyarrow as pa
import pytest

from dagfusion_client.as_of import Given
from dagfusion_client.errors import AsOfError, PlanError, UnknownTableError
from dagfusion_query import Connection
from tests.server.doors.conftest import Doors
from tests.server.doors.doors import AdbcDoor, CommandLine, ConnectionDoor, Door
from tests.server.processes.process import Server

TABLE = "local_silver_tax_id.orgs"
OTHER = "local_silver_tax_id.orders"
VIEW_NAME = "local_gold.evens"
COUNT = f"SELECT count(*) AS n, count(DISTINCT state) AS states FROM {TABLE}"


def counted(table: pa.Table) -> dict[str, int]:
    [row] = table.to_pylist()
    return dict(row)


@pytest.mark.parametrize(("as_of", "states"), [(1, 1), ("2", 2), (3, 3), (6, 3)])
def test_a_statement_sees_the_partitions_of_that_event(door: Door, as_of: Given, states: int) -> None:
    assert counted(door.table(COUNT, as_of=as_of)) == {"n": 1000 * states, "states": states}
    assert counted(door.table(COUNT)) == {"n": 3000, "states": 3}


def test_rows_are_read_with_parameters(door: Door) -> None:
    sql = f"SELECT id FROM {TABLE} WHERE id >= $1 AND name IS NOT NULL ORDER BY id LIMIT 2"
    assert door.table(sql, [998], as_of=2).to_pydict() == {"id": [999, 1001]}
    assert door.table(sql, [1998], as_of=2).to_pydict() == {"id": [1999]}


def test_the_same_statement_has_its_own_plan_for_each_event(door: Door) -> None:
    sql = f"SELECT sum(id) AS ids FROM {TABLE} WHERE id > 5"
    sums = [counted(door.table(sql, as_of=event))["ids"] for event in (1, 2, 3, 2, 1)]
    assert sums == [sums[4], sums[3], counted(door.table(sql))["ids"], sums[1], sums[0]]
    assert len(set(sums)) == 3


def test_a_table_that_came_later_is_unknown(door: Door) -> None:
    error = door.error(f"SELECT * FROM {OTHER}", as_of=3)
    assert f"there was no table {OTHER} as of event 3" in str(error)
    names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'local_silver_tax_id'"
    moment = "2999-01-01"
    assert "is in the future" in str(door.error(f"SELECT * FROM {TABLE}", as_of=moment))
    assert door.table(f"{names} ORDER BY 1").to_pydict() == {"table_name": ["orders", "orgs"]}


def test_a_view_has_a_past(door: Door) -> None:
    sql = f"SELECT count(*) AS n FROM {VIEW_NAME}"
    assert counted(door.table(sql, as_of=7)) == {"n": 1500}
    assert f"there was no table {VIEW_NAME} as of event 3" in str(door.error(sql, as_of=3))


def test_what_is_no_past_is_refused(door: Door) -> None:
    assert "event 999999 is in the future" in str(door.error(COUNT, as_of=999_999))
    assert "must be the id of an event" in str(door.error(COUNT, as_of="yesterday"))
    assert "there is no table local_silver_tax_id.org: did you mean" in str(
        door.error("SELECT * FROM local_silver_tax_id.org", as_of=3)
    )


def test_an_error_has_its_class(connection: Connection) -> None:
    with pytest.raises(AsOfError):
        connection.sql(COUNT, as_of="yesterday")
    with pytest.raises(UnknownTableError):
        connection.sql(f"SELECT * FROM {OTHER}", as_of=3)
    with pytest.raises(PlanError):
        connection.sql(f"SELECT nothing FROM {TABLE}", as_of=3)


def test_plans_and_stats_are_of_the_past(connection: Connection) -> None:
    explained = connection.explain(f"SELECT id FROM {TABLE} WHERE id > 0", as_of=2)
    assert [(scan.table, scan.files_total) for scan in explained.scans] == [(TABLE, 2)]
    result = connection.sql(f"EXPLAIN SELECT id FROM {TABLE} WHERE id > 0", as_of=2)
    assert f"{TABLE}: 2 of 2 files" in result.to_arrow()["plan"][0].as_py()
    result = connection.sql(f"SELECT id FROM {TABLE} WHERE id > 0", as_of=2)
    result.to_arrow()
    assert (result.stats.generation, result.stats.files_total) == (2, 2)


def test_a_caller_sees_only_its_tables(restricted: Door) -> None:
    assert counted(restricted.table(COUNT, as_of=2))["states"] == 2
    error = restricted.error(f"SELECT * FROM {OTHER}", as_of=3)
    assert f"there is no table {OTHER}" in str(error)
    names = "SELECT table_name FROM information_schema.tables"
    assert restricted.table(names, as_of=2).to_pydict() == {"table_name": ["orgs"]}
    assert counted(restricted.table(f"SELECT count(*) AS n FROM {VIEW_NAME}", as_of=7)) == {"n": 1500}
    error = restricted.error(f"SELECT * FROM {VIEW_NAME}", as_of=3)
    assert f"there is no table {VIEW_NAME}" in str(error)


def test_an_event_is_of_one_event_log(limited: Door) -> None:
    both = f"SELECT count(*) AS n FROM {TABLE} a JOIN prod_silver_tax_id.orgs b USING (id) WHERE b.state <> 'TX'"
    assert "the statement is about several (local, prod)" in str(limited.error(both, as_of=2))
    assert counted(limited.table(both))["n"] == 2000


def test_a_time_is_of_all_event_logs(connection: Connection, doors: Doors) -> None:
    at = doors.past_time(2)
    assert counted(connection.sql(COUNT, as_of=at).to_arrow())["states"] == 2
    assert counted(connection.sql(COUNT, as_of=at.isoformat()).to_arrow())["states"] == 2


def test_a_session_of_flight_keeps_it(server: Server) -> None:
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    uri = f"grpc://{server.flight_url.rpartition('/')[2]}"
    with flight_sql.connect(uri, db_kwargs=options, autocommit=True) as connection:
        door = AdbcDoor(connection)
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.as_of": "2"})
        assert counted(door.table(COUNT))["states"] == 2
        assert counted(door.table(COUNT, as_of=1))["states"] == 1
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.as_of": ""})
        assert counted(door.table(COUNT))["states"] == 3


def test_http_takes_a_number_or_a_text(server: Server) -> None:
    with server.client() as client:
        for as_of in (2, "2"):
            answer = client.post("/v1/sql", json={"sql": COUNT, "format": "json", "as_of": as_of})
            assert answer.json()["rows"] == [[2000, 2]]
        refused = client.post("/v1/sql", json={"sql": COUNT, "as_of": [2]})
        queries = client.get("/v1/queries").json()["queries"]
    assert (refused.status_code, refused.json()["code"]) == (400, "as_of")
    assert [query["as_of"] for query in queries[:2]] == ["2", "2"]


# ---- revisions and differences


def test_revisions_are_listed_newest_first(connection: Connection) -> None:
    found = connection.history(TABLE)
    assert [(one.event_id, one.partitions, one.rows, one.run_id, one.is_wipe) for one in found] == [
        (event, 1, 1000, None, False) for event in (3, 2, 1)
    ]
    assert connection.history(TABLE, limit=1) == found[:1]
    assert found[0].at > found[1].at
    for one in found:
        assert counted(connection.sql(COUNT, as_of=one.at).to_arrow()) == counted(
            connection.sql(COUNT, as_of=one.event_id).to_arrow()
        )


def test_a_difference_comes_from_metadata(connection: Connection) -> None:
    diff = connection.diff(TABLE, 1, 3)
    assert (diff.added, diff.rewritten, diff.gone, diff.unchanged) == (2, 0, 0, 1)
    assert (diff.rows_before, diff.rows_after, diff.before, diff.after) == (1000, 3000, 1, 3)
    assert [(c.partition_key, c.change, c.rows_before, c.rows_after) for c in diff.changes] == [
        ("NY", "added", None, 1000),
        ("TX", "added", None, 1000),
    ]
    assert connection.diff(TABLE, "2000-01-01").added == 3
    back = connection.diff(TABLE, 3, 1)
    assert (back.added, back.gone, back.rows_after) == (0, 2, 1000)


def test_history_of_no_table_is_refused(connection: Connection) -> None:
    for step in (connection.history, lambda name: connection.diff(name, 1)):
        with pytest.raises(UnknownTableError, match=r"no table local_silver_tax_id\.nope"):
            step("local_silver_tax_id.nope")
    with pytest.raises(AsOfError):
        connection.diff(TABLE, "yesterday")
    with pytest.raises(AsOfError, match="in the future"):
        connection.diff(TABLE, 1, 999_999)


@pytest.mark.parametrize("name", ["http", "flight"])
def test_history_is_of_tables_that_the_caller_may_read(doors: Doors, name: str) -> None:
    door = doors.open(name, with_token=True)
    assert isinstance(door, ConnectionDoor)
    assert len(door.connection.history(TABLE)) == 3
    with pytest.raises(UnknownTableError):
        door.connection.history(OTHER)
    with pytest.raises(UnknownTableError):
        door.connection.diff(OTHER, 4)


@pytest.mark.parametrize("name", ["cli", "cli-http", "cli-flight"])
def test_the_command_line_shows_history(doors: Doors, name: str) -> None:
    door = doors.open(name)
    assert isinstance(door, CommandLine)
    listed = orjson.loads(door.run("history", TABLE, "--format=json").out)
    assert [(row["event_id"], row["rows"]) for row in listed] == [(3, 1000), (2, 1000), (1, 1000)]
    changed = orjson.loads(door.run("history", TABLE, "--diff", "1", "now", "--format=json").out)
    assert [(row["partition_key"], row["change"]) for row in changed] == [("NY", "added"), ("TX", "added")]
    shown = door.run("history", TABLE, "--diff", "2", "3")
    assert "1 partitions added, 0 rewritten, 0 gone, 2 unchanged; 2,000 rows to 3,000" in shown.err
    assert "TX" in shown.out.decode()
    assert "event_id" in door.run("history", TABLE, "--limit=1").out.decode()


def test_http_says_what_a_request_lacks(server: Server) -> None:
    path = f"/v1/tables/{TABLE.replace('.', '/')}"
    with server.client() as client:
        assert client.get(f"{path}/diff").status_code == 400
        assert client.get(f"{path}/generations?limit=101").status_code == 400
        assert client.get(f"{path}/diff?from=1&to=2").json()["added"] == 1
