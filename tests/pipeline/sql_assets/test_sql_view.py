"""Views that are defined by SQL, published in real runs and read by the query side."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

import dagfusion_query
from dagfusion_client.errors import PlanError
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager, sql_asset, sql_view
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError, SqlError

pytestmark = pytest.mark.filterwarnings("ignore:.*Virtual assets:dagster.PreviewWarning")
STATES = dg.StaticPartitionsDefinition(["CA", "NY"])
ORGS = dg.AssetKey(["Silver", "TaxID", "orgs"])


@dg.asset(key=ORGS, partitions_def=STATES, io_manager_key="hive")
def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return pl.DataFrame({"n": [1, 2, 3], "state": [context.partition_key] * 3})


ACTIVE = """
    SELECT o.state AS place, o.n -- not "Silver/TaxID/orgs"
    FROM "Silver/TaxID/orgs" AS o
    WHERE n > 1 AND 'silver_tax_id.orgs' <> state AND n IN (SELECT n FROM silver_tax_id.orgs)
"""


class Location:
    """The assets of a code location, run one at a time over one event log."""

    def __init__(self, home: Path, fields: dict[str, Any]) -> None:
        self.home, self.fields = home, fields
        self.instance = dg.DagsterInstance.local_temp(str(home))
        self.resources: dict[str, Any] = {
            "hive": PartitionedS3ParquetIOManager(**fields),
            "io_manager": S3ParquetIOManager(**fields),
        }

    def run(self, asset: dg.AssetsDefinition, *others: dg.AssetsDefinition, partition: str | None = None) -> Any:
        """Materialize an asset and return the metadata of its event."""
        result = dg.materialize(
            [orgs, *others, *([] if asset is orgs else [asset])],
            selection=[asset],
            instance=self.instance,
            resources=self.resources,
            partition_key=partition,
        )
        (event,) = [event.materialization for event in result.get_asset_materialization_events()]
        return {name: value.value for name, value in event.metadata.items()}

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Run a statement of the query side."""
        names = {"endpoint_url": "AWS_ENDPOINT_URL", "access_key_id": "AWS_ACCESS_KEY_ID"}
        names |= {"secret_access_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}
        settings = {variable: self.fields[name] for name, variable in names.items() if name in self.fields}
        settings |= {"DAGFUSION_STATE_DIR": "none", "DAGFUSION_OBJECT_CACHE_DIR": "none"}
        with dagfusion_query.connect(str(self.home), environment="uat", settings=settings) as connection:
            return list(connection.sql(sql).to_arrow().to_pylist())


@pytest.fixture
def location(s3_fields: dict[str, Any], tmp_path: Path) -> Iterator[Location]:
    there = Location(tmp_path, {**s3_fields, "prefix": tmp_path.name, "environment": "uat"})
    with there.instance:
        there.run(orgs, partition="CA")
        yield there


def test_a_view_is_published_and_shows_what_comes_later(location: Location) -> None:
    view = sql_view("Gold/active", ACTIVE, assets=[orgs])

    published = location.run(view)

    count = "SELECT place, count(*) AS n FROM uat_gold.active GROUP BY place ORDER BY place"
    assert location.rows(count) == [{"place": "CA", "n": 2}]
    location.run(orgs, partition="NY")
    assert location.rows(count) == [{"place": "CA", "n": 2}, {"place": "NY", "n": 2}]
    record = published["dagfusion/view"]
    assert record["tables"] == ["uat_silver_tax_id.orgs"]
    assert record["sql"] == ACTIVE.replace('FROM "Silver/TaxID/orgs"', "FROM uat_silver_tax_id.orgs").replace(
        "FROM silver_tax_id.orgs", "FROM uat_silver_tax_id.orgs"
    )
    assert [(c.name, c.type) for c in published["dagster/column_schema"].columns] == [
        ("place", "string"),
        ("n", "int64"),
    ]
    assert published["dagster/column_lineage"].deps_by_column == {
        "place": [dg.TableColumnDep(ORGS, "state")],
        "n": [dg.TableColumnDep(ORGS, "n")],
    }


def test_a_view_of_a_view_and_an_asset_of_both(location: Location) -> None:
    low = sql_view("low", "SELECT n, state FROM silver_tax_id.orgs WHERE n < 3", assets=[orgs])
    lower = sql_view("lower", 'SELECT n FROM "low" WHERE n < 2', assets=[low])
    stored = sql_asset("stored", 'SELECT count(*) AS c, max(l.n) AS m FROM "lower" AS l, low', assets=[low, lower])

    location.run(low)
    location.run(lower, low)
    location.run(stored, low, lower)

    assert location.rows("SELECT * FROM uat_default.stored") == [{"c": 2, "m": 1}]


def test_a_run_goes_through_a_view_to_what_it_reads(location: Location) -> None:
    """Dagster resolves a virtual asset to its ancestors: both run in one job, in order."""
    view = sql_view("seen", "SELECT n FROM silver_tax_id.orgs", assets=[orgs])

    result = dg.materialize([orgs, view], instance=location.instance, resources=location.resources, partition_key="NY")

    assert result.success
    assert location.rows("SELECT count(*) AS n FROM uat_default.seen") == [{"n": 6}]


def test_another_io_manager_is_refused(location: Location) -> None:
    view = sql_view("seen", "SELECT n FROM silver_tax_id.orgs", assets=[orgs])
    location.resources["io_manager"] = dg.FilesystemIOManager()
    with pytest.raises(
        ConfigurationError, match=r"'io_manager' of asset 'seen' must be one of DagFusion's IO managers"
    ):
        location.run(view)


def test_the_definition_is_virtual_and_has_the_sql() -> None:
    view = sql_view("Gold/active", ACTIVE, assets=[orgs], group_name="gold", owners=["team:data"])

    (spec,) = view.specs
    assert spec.is_virtual
    assert (spec.group_name, spec.kinds, spec.owners) == ("gold", {"sql", "view"}, ["team:data"])
    assert (
        spec.code_version
        == sql_view("other", ACTIVE + "-- same", assets=[orgs]).specs_by_key[dg.AssetKey("other")].code_version
    )
    assert [dep.asset_key for dep in spec.deps] == [ORGS]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT n FROM silver_tax_id.orgs WHERE state = $partition_key", r"has \$partition_key"),
        ("SELECT n FROM silver_tax_id.nothing", "is of none of its assets"),
        ("DELETE FROM silver_tax_id.orgs", "must be a query, got DELETE"),
        ("SELECT 1; SELECT 2", "must be one statement"),
    ],
)
def test_what_is_no_view_is_refused_when_it_is_defined(sql: str, says: str) -> None:
    with pytest.raises(SqlError, match=says):
        sql_view("v", sql, assets=[orgs])


def test_what_cannot_be_planned_is_not_published(location: Location) -> None:
    for sql, error, says in (
        ("SELECT nothing FROM silver_tax_id.orgs", PlanError, "nothing"),
        ("SELECT a.n, b.n FROM silver_tax_id.orgs a, silver_tax_id.orgs b", SqlError, "two columns 'n'"),
        ("SELECT n AS a FROM silver_tax_id.orgs, gone", MissingObjectError, "has no materialization"),
        ("SELECT n FROM prod_silver_tax_id.orgs", ConfigurationError, "not in environment 'uat'"),
    ):
        gone = dg.AssetSpec("gone")
        with pytest.raises(error, match=says):
            location.run(sql_view("v", sql, assets=[orgs, gone]))
    with pytest.raises(dagfusion_query.QueryError, match="there is no table"):
        location.rows("SELECT * FROM uat_default.v")
