"""Views: a statement over a view is the statement over its text, and reads the same files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import PlanError, UnknownTableError
from dagfusion_contract.naming import TableName, table_name
from dagfusion_contract.view import View
from dagfusion_query.access.grants import Grants, restricted
from dagfusion_query.catalog.model import Selection, selected
from dagfusion_query.engine.runtime import PLANNERS
from dagfusion_query.event_log.event_log_interface import Materialization, Wipe
from tests.query.engine.conftest import ORGS, TABLE

CA = f"SELECT id, name, date FROM {TABLE} WHERE state = 'CA'"
ANY = pa.schema({"id": pa.int64()})


def publish(lake: Any, key: tuple[str, ...], sql: str, reads: Sequence[str] = (TABLE,), event_id: int = 1000) -> str:
    """Publish a view, and return its name."""
    view = View(sql, tuple(TableName(*name.split(".")) for name in reads), ANY)
    at_us = int(datetime.now(UTC).timestamp() * 1e6)
    lake.fold([Materialization(key, event_id, None, at_us, "run", view)])
    return str(table_name("local", key))


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("over", "files"),
    [
        ("SELECT * FROM {v} WHERE date = '2024-01-05' ORDER BY id", 1),
        ("SELECT date, count(*) AS n, max(id) AS m FROM {v} AS a GROUP BY date ORDER BY date", 0),
        ("SELECT count(*) AS n FROM {v}", 0),
        ("SELECT date, sum(id) AS s FROM {v} GROUP BY date ORDER BY date", 7),
        ("SELECT a.id FROM {v} a JOIN {v} b ON a.id = b.id WHERE b.id < 15 ORDER BY 1", None),
        ("SELECT id FROM {v} WHERE id NOT IN (1, 2) OR id NOT IN (3, 4) ORDER BY id", 7),
        ("SELECT id FROM {v} WHERE 3 = id", 1),
    ],
)
def test_a_view_is_its_statement(orgs: Any, over: str, files: int | None) -> None:
    name = publish(orgs, ("Gold", "californian"), CA)

    assert orgs.rows(over.format(v=name)) == orgs.rows(over.format(v=f"({CA})"))
    if files is not None:
        assert sum(read for read, _ in orgs.files_read(over.format(v=name))) == files


def test_views_read_views_in_any_order_of_publication(orgs: Any) -> None:
    second = publish(
        orgs, ("Gold", "early"), "SELECT id FROM local_gold.ca WHERE date < '2024-01-03'", ["local_gold.ca"]
    )
    publish(orgs, ("Gold", "ca"), CA, event_id=1001)

    assert orgs.rows(f"SELECT count(*) AS n FROM {second}") == [{"n": 20}]


def test_a_constant_of_a_view_is_read_as_in_a_statement(lake: Any) -> None:
    at = pa.array([datetime(2024, 3, 10, 3, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    lake.write(("t",), pa.table({"at": at}))
    name = publish(
        lake, ("hourly",), "SELECT at FROM local_default.t WHERE at = '2024-03-10-03:00'", ["local_default.t"]
    )

    assert len(lake.rows(f"SELECT * FROM {name}")) == 1


def test_a_volatile_view_is_computed_each_time(orgs: Any) -> None:
    name = publish(orgs, ("Gold", "drawn"), f"SELECT id, random() AS r FROM {TABLE}")
    sql = f"SELECT sum(r) AS s FROM {name}"

    assert not orgs.prepare(sql).is_repeatable
    assert orgs.rows(sql) != orgs.rows(sql)
    assert orgs.prepare(f"SELECT id FROM {TABLE}").is_repeatable


def test_the_last_publication_counts(orgs: Any) -> None:
    key = ("Gold", "v")
    name = publish(orgs, key, f"SELECT id FROM {TABLE} WHERE id < 5")
    assert orgs.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": 5}]

    publish(orgs, key, f"SELECT id FROM {TABLE} WHERE id < 7", event_id=1001)
    assert orgs.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": 7}]


def test_a_view_shows_what_is_materialized_after_it(orgs: Any) -> None:
    name = publish(orgs, ("Gold", "all"), f"SELECT id FROM {TABLE}")
    before = orgs.rows(f"SELECT count(*) AS n FROM {name}")
    orgs.write(
        ORGS,
        pa.table({"id": [1000], "name": ["new"]}),
        {"state": pa.scalar("VT"), "date": pa.scalar(None, pa.date32())},
    )

    assert (before, orgs.rows(f"SELECT count(*) AS n FROM {name}")) == ([{"n": 280}], [{"n": 281}])


def test_information_schema_names_views_and_their_columns(orgs: Any) -> None:
    """The columns are those of the publication, as everywhere: a view that no statement names is not planned."""
    publish(orgs, ("Gold", "ca"), CA)
    kinds = "SELECT table_schema || '.' || table_name AS t, table_type AS k FROM information_schema.tables ORDER BY 1"
    columns = (
        "SELECT column_name AS c FROM information_schema.columns WHERE table_name = 'ca' ORDER BY ordinal_position"
    )

    assert orgs.rows(kinds) == [{"t": "local_gold.ca", "k": "VIEW"}, {"t": TABLE, "k": "BASE TABLE"}]
    assert [row["c"] for row in orgs.rows(columns)] == ANY.names


@pytest.mark.parametrize(
    ("sql", "reads", "says"),
    [
        ("SELECT nothing FROM " + TABLE, [TABLE], "nothing"),
        ("SELECT 1 AS a FROM local_gold.gone", ["local_gold.gone"], "gone"),
        ("SELECT * FROM local_gold.v", ["local_gold.v"], "reads itself"),
        ("DROP TABLE " + TABLE, [TABLE], "only queries"),
        ("SELECT 1 AS a; SELECT 2 AS a", [TABLE], "one statement"),
        ("not SQL", [TABLE], "cannot be planned"),
        ("SELECT id FROM local_gold.collides", ["local_gold.collides"], "cannot be planned"),
    ],
)
def test_a_view_that_cannot_be_planned_hides_nothing_else(orgs: Any, sql: str, reads: list[str], says: str) -> None:
    name = publish(orgs, ("Gold", "v"), sql, reads)

    assert orgs.rows(f"SELECT count(*) AS n FROM {TABLE}") == [{"n": 280}]
    with pytest.raises(PlanError, match=says) as raised:
        orgs.rows(f"SELECT * FROM {name}")
    assert name in str(raised.value)


@pytest.mark.usefixtures("heavy")
def test_a_huge_view_does_not_end_the_process(orgs: Any) -> None:
    terms = " OR ".join(f"id = {i}" for i in range(3000))
    name = publish(orgs, ("Gold", "v"), f"SELECT id FROM {TABLE} WHERE {terms}")

    assert orgs.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": 280}]


def test_the_rights_of_a_view_are_those_of_its_tables(orgs: Any) -> None:
    orgs.write(("Silver", "other"), pa.table({"id": [1]}))
    publish(orgs, ("Gold", "ca"), CA)
    publish(orgs, ("Gold", "above"), "SELECT id FROM local_gold.ca", ["local_gold.ca"], event_id=1001)
    publish(
        orgs,
        ("Gold", "both"),
        f"SELECT id FROM {TABLE} UNION SELECT id FROM local_silver.other",
        [TABLE, "local_silver.other"],
        event_id=1002,
    )

    def seen(*grants: str) -> set[str]:
        return {str(name) for name in restricted(orgs.snapshot, Grants.parse(grants), "local").tables}

    assert seen(TABLE) == {TABLE, "local_gold.ca", "local_gold.above"}
    assert seen("local_silver.*") == {"local_silver.other"}
    assert seen("local_gold.*") == set()
    assert len(seen("local")) == 5


def test_a_view_that_names_more_than_it_says_gives_nothing_away(orgs: Any) -> None:
    orgs.write(("Silver", "other"), pa.table({"id": [1]}))
    name = publish(orgs, ("Gold", "sly"), f"SELECT id FROM {TABLE}", ["local_silver.other"])
    snapshot = restricted(orgs.snapshot, Grants.parse(["local_silver.*"]), "local")

    with pytest.raises(PlanError, match="cannot be planned"):
        orgs.engine.prepare(f"SELECT * FROM {name}", None, snapshot)
    with pytest.raises(UnknownTableError):
        orgs.engine.prepare(f"SELECT * FROM {TABLE}", None, snapshot)


def test_a_view_without_tables_has_rights_of_its_own(orgs: Any) -> None:
    publish(orgs, ("Gold", "constant"), "SELECT 1 AS id", [])

    def seen(grant: str) -> set[str]:
        return {str(name) for name in restricted(orgs.snapshot, Grants.parse([grant]), "local").tables}

    assert seen("local_gold.*") == {"local_gold.constant"}
    assert seen(TABLE) == {TABLE}


def test_a_name_that_begins_with_a_views_is_another(orgs: Any) -> None:
    publish(orgs, ("Gold", "v"), "SELECT nothing FROM " + TABLE)

    with pytest.raises(UnknownTableError):
        orgs.rows("SELECT * FROM local_gold.v2")


def test_a_name_in_quotes_is_found(orgs: Any) -> None:
    publish(orgs, ("Gold", "drawn"), f"SELECT random() AS r FROM {TABLE}")
    alias = TableName("public", 'Gold/"drawn"')
    snapshot = selected(orgs.snapshot, [Selection(("Gold", "drawn"), (alias,))])

    prepared = orgs.engine.prepare('SELECT sum(r) AS s FROM "Gold/""drawn"""', None, snapshot)

    assert not prepared.is_repeatable


@pytest.mark.usefixtures("heavy")
def test_a_view_that_no_statement_names_costs_nothing(orgs: Any) -> None:
    """Each of these reads the one before twice, so that the last would take years to plan."""
    before = TABLE
    for number in range(40):
        sql = f"SELECT a.id FROM {before} a JOIN {before} b ON a.id = b.id WHERE 3 = a.id"
        before = publish(orgs, ("Gold", f"w{number}"), sql, [before], event_id=1000 + number)

    assert orgs.rows(f"SELECT count(*) AS n FROM {TABLE}") == [{"n": 280}]
    assert orgs.rows("SELECT count(*) AS n FROM local_gold.w2") == [{"n": 1}]


@pytest.mark.usefixtures("heavy")
def test_statements_that_are_planned_twice_do_not_wait_for_each_other(orgs: Any) -> None:
    name = publish(orgs, ("Gold", "v"), CA)
    sql = (
        "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) "
        f"SELECT i, id FROM r LEFT JOIN (SELECT id FROM {name} WHERE 1 = 2) ON id = i WHERE i > {{n}} ORDER BY i"
    )
    with ThreadPoolExecutor(3 * PLANNERS) as pool:
        rows = list(pool.map(lambda n: len(orgs.rows(sql.format(n=n % 2))), range(3 * PLANNERS)))

    assert rows == [3, 2] * (3 * PLANNERS // 2)


def test_a_wiped_view_is_gone(orgs: Any) -> None:
    name = publish(orgs, ("Gold", "v"), CA)
    orgs.fold([Wipe(("Gold", "v"), int(datetime.now(UTC).timestamp() * 1e6))])

    with pytest.raises(UnknownTableError):
        orgs.rows(f"SELECT * FROM {name}")
