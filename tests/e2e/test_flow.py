"""Materialize, discover, register, query: every answer against one computed from the stored objects."""

import datetime as dt
from collections.abc import Iterator
from urllib.parse import unquote

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import dagfusion_query
from tests.e2e.lake import EXTRACTS, ORDERS_BY_STATE, ORG_AGGREGATES, PREFIX, REGISTER, TABLES, Lake
from tests.e2e.wire import recording

DAY = dt.date(2024, 1, 2)
ORGANIZATIONS = TABLES[EXTRACTS]


@pytest.fixture(scope="module")
def connection(filled: Lake) -> Iterator[dagfusion_query.Connection]:
    with filled.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def organizations(filled: Lake) -> pl.DataFrame:
    return filled.stored(EXTRACTS)


def test_every_asset_becomes_a_table(connection: dagfusion_query.Connection, filled: Lake) -> None:
    found = {table.name: (table.asset_key, table.partitions, table.rows) for table in connection.tables()}
    partitions = {key: len(filled.objects(key)) for key in TABLES}
    assert sorted(partitions.values()) == [1, 1, 3, 3, 150, 150]
    assert found == {
        name: (tuple(key.path), partitions[key], filled.stored(key).height) for key, name in TABLES.items()
    }


def test_each_partition_has_one_event_with_its_own_record(filled: Lake) -> None:
    records = filled.instance.fetch_materializations(dg.AssetRecordsFilter(EXTRACTS), limit=1000).records
    logged = {}
    for record in records:
        materialization = record.asset_materialization
        assert materialization is not None
        file = materialization.metadata["dagfusion/file"].value
        assert isinstance(file, dict)
        logged[record.partition_key] = file["uri"]
    assert len(records) == len(logged) == 150
    stored = {f"s3://{filled.bucket}/{name}" for name in filled.objects(EXTRACTS)}
    assert set(logged.values()) == stored
    assert logged["2024-01-02|CA"].endswith("/partitioned_organizations/state=CA/date=2024-01-02/data.parquet")


@pytest.mark.parametrize(
    ("where", "files"),
    [
        pytest.param("true", 150, id="full"),
        pytest.param("state = 'CA'", 3, id="state"),
        pytest.param("date = '2024-01-02'", 50, id="date"),
        pytest.param("state = 'CA' and date = '2024-01-02'", 1, id="point"),
        pytest.param("state in ('CA', 'TX', 'NY') and date >= '2024-01-02'", 6, id="in-and-range"),
        pytest.param("upper(state) like 'N%' and extract(day from date) = 3", 8, id="functions"),
        pytest.param("state = 'CA' or date = '2024-01-03'", 52, id="or"),
        pytest.param("state = 'nowhere'", 0, id="none"),
    ],
)
def test_a_query_reads_the_files_of_its_partitions(
    connection: dagfusion_query.Connection, organizations: pl.DataFrame, where: str, files: int
) -> None:
    columns = "npi, organization_name, provider_count, state, date"
    result = connection.sql(f"select {columns} from {ORGANIZATIONS} where {where}")
    expected = pl.SQLContext(t=organizations).execute(f"select {columns} from t where {where}").collect()
    assert_frame_equal(result.to_polars(), expected, check_row_order=False)
    assert (result.stats.files_read, result.stats.files_skipped) == (files, 150 - files)


@pytest.mark.parametrize(
    "select",
    [
        "select count(*) as n from t",
        "select state, count(*) as n, sum(provider_count) as providers from t group by state",
        "select date, min(provider_count) as least, max(provider_count) as most from t group by date",
        "select state, count(*) as n from t where date = '2024-01-03' group by state having count(*) > 300",
    ],
)
def test_aggregates(connection: dagfusion_query.Connection, organizations: pl.DataFrame, select: str) -> None:
    expected = pl.SQLContext(t=organizations).execute(select).collect()
    answer = connection.sql(select.replace("from t", f"from {ORGANIZATIONS}")).to_polars()
    assert_frame_equal(answer, expected, check_row_order=False, check_dtypes=False)


def test_a_join_prunes_both_sides(connection: dagfusion_query.Connection, filled: Lake) -> None:
    query = (
        f"select o.state, count(distinct o.npi) as organizations, count(distinct s.order_id) as orders "
        f"from {ORGANIZATIONS} o join {TABLES[ORDERS_BY_STATE]} s on o.state = s.state and o.date = s.date "
        "where o.date = '2024-01-02' and o.state = 'VT' and s.state = 'VT' and s.date = '2024-01-02' group by o.state"
    )
    result = connection.sql(query)
    counts = [
        filled.stored(key).filter(pl.col("state") == "VT", pl.col("date") == DAY)[column].n_unique()
        for key, column in ((EXTRACTS, "npi"), (ORDERS_BY_STATE, "order_id"))
    ]
    assert result.to_arrow().to_pylist() == [{"state": "VT", "organizations": counts[0], "orders": counts[1]}]
    assert (result.stats.files_read, result.stats.files_total) == (2, 300)


def test_the_gold_table_agrees_with_its_source(connection: dagfusion_query.Connection) -> None:
    gold = connection.sql(
        f"select state, organizations as n from {TABLES[ORG_AGGREGATES]} where date = '2024-01-02' order by state"
    )
    silver = connection.sql(
        f"select state, count(*) as n from {ORGANIZATIONS} where date = '2024-01-02' group by 1 order by 1"
    )
    assert gold.stats.files_read == 1
    assert_frame_equal(gold.to_polars(), silver.to_polars(), check_dtypes=False)


def test_a_point_query_asks_the_store_for_one_object_and_lists_nothing(filled: Lake) -> None:
    with (
        recording(filled.variables["AWS_ENDPOINT_URL"]) as wire,
        filled.connect(AWS_ENDPOINT_URL=wire.endpoint) as connection,
    ):
        point = f"select count(npi) as n from {ORGANIZATIONS} where state = 'CA' and date = '2024-01-02' and npi > 0"
        assert connection.sql(point).to_arrow()["n"][0].as_py() > 0
        assert connection.sql(f"select sum(provider_count) from {TABLES[REGISTER]}").to_arrow().num_rows == 1
    folder = "/".join([PREFIX, *EXTRACTS.path])
    objects = {
        f"/{filled.bucket}/{folder}/state=CA/date=2024-01-02/data.parquet",
        f"/{filled.bucket}/{PREFIX}/{'/'.join(REGISTER.path)}.parquet",
    }
    asked = [request.partition(" ") for request in wire.requests]
    assert {method for method, _, _ in asked} == {"GET"}
    assert {unquote(path) for _, _, path in asked} == objects
    assert len(asked) <= 3 * len(objects)  # where the footer is, the footer, the columns
