"""Columns of statements that were described: known without a worker, and never those of another catalog or caller."""

import pyarrow as pa
import pytest

from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.documents.query_documents import State
from dagfusion_query.errors import QueryError, UnknownTableError
from dagfusion_query.service.query_registry import Query
from tests.query.engine.conftest import Lake
from tests.query.service.conftest import ANN, PublishedCatalogs, Serve, Served

SQL = "SELECT * FROM local_gold.totals"
BOB = Caller("bob", Grants.parse(["local_silver_tax_id.orgs"]), "flight")


def described(served: Served, sql: str = SQL, caller: Caller = ANN, row: pa.RecordBatch | None = None) -> pa.Schema:
    return served.loop.run(served.service.describe(Query(sql, row), caller))


def planned(served: Served) -> float:
    lines = served.ask(served.service.metrics).decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("dagfusion_plans_total"))


def test_columns_are_known_until_the_catalog_changes(
    new_served: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = Lake(tmp_path_factory.mktemp("own"))
    own.write(("Gold", "totals"), pa.table({"total": [1]}), folder="")
    catalogs = PublishedCatalogs(tmp_path_factory.mktemp("state"))
    catalogs.publish(own.snapshot)
    served = new_served(catalogs, workers=1)
    for _ in range(3):
        assert described(served).names == ["total"]
    assert planned(served) == 1
    own.write(("Gold", "totals"), pa.table({"total": [1], "more": ["x"]}), folder="")
    catalogs.publish(own.snapshot)
    for _ in range(2):
        assert described(served).names == ["total", "more"]
    assert planned(served) == 2
    own.engine.close()


def test_parameters_and_callers_are_told_apart(served: Served) -> None:
    typed = "SELECT $1 AS a"
    rows = [pa.record_batch({"1": pa.array([value])}) for value in (1, "x")]
    for _ in range(2):
        assert [described(served, typed, row=row).types for row in rows] == [[pa.int64()], [pa.string()]]
        assert described(served).names == ["total"]
        with pytest.raises(UnknownTableError):
            described(served, caller=BOB)


def test_errors_are_not_remembered(served: Served) -> None:
    for _ in range(2):
        with pytest.raises(QueryError):
            described(served, "SELECT none FROM local_gold.totals")
        assert served.latest().state is State.failed
