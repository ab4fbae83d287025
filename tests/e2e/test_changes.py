"""What a reader sees when the lake changes under it, or a part of it fails."""

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_client.errors import StaleObjectError, StoreUnavailableError, UnknownTableError
from dagfusion_pipeline.environment import Environment
from dagfusion_reference.defs.resources import MeasuredHiveParquet, Metrics
from dagfusion_reference.defs.seed import Seed
from tests.e2e.lake import EXTRACTS, REGISTER, TABLES, Lake, lake
from tests.e2e.services import Database, Services
from tests.waiting import eventually

ORGANIZATIONS = TABLES[EXTRACTS]
COUNT = f"select count(npi) as n, sum(provider_count) as providers from {ORGANIZATIONS}"


def stored(deployment: Lake) -> dict[str, int]:
    rows = deployment.stored(EXTRACTS)
    return {"n": rows.height, "providers": int(rows["provider_count"].sum())}


class FailingHiveParquet(MeasuredHiveParquet):
    """Writes the states in their order, and fails on Montana."""

    def metrics(self, context: dg.OutputContext, table: pa.Table) -> Metrics:
        if "MT" in table["state"].to_pylist():
            raise RuntimeError("Montana fails")
        return super().metrics(context, table)


def test_a_rematerialization_is_visible_after_a_refresh(small: Lake) -> None:
    with small.connect() as connection:
        before = connection.sql(COUNT).to_arrow().to_pylist()
        assert before == [stored(small)]
        assert small.materialize(EXTRACTS, "2024-01-01|AL", "2024-01-01|AZ", seed=Seed(value=7))
        generation = connection.refresh().generation
        result = connection.sql(COUNT)
        assert result.to_arrow().to_pylist() == [stored(small)] != before
        assert (result.stats.files_total, result.stats.generation) == (3, generation)


def test_a_new_partition_is_visible_without_a_refresh(small: Lake) -> None:
    with small.connect() as connection:
        assert connection.sql(COUNT).stats.files_total == 3
        assert small.materialize(EXTRACTS, "2024-01-02|AK")
        assert eventually(lambda: connection.sql(COUNT).stats.files_total == 4)
        assert connection.sql(COUNT).to_arrow().to_pylist() == [stored(small)]


def test_a_wiped_asset_is_gone_until_it_is_materialized_again(small: Lake) -> None:
    with small.connect() as connection:
        assert connection.sql(COUNT).stats.files_total == 3
        small.instance.wipe_assets([EXTRACTS])
        connection.refresh()
        with pytest.raises(UnknownTableError, match="partitioned_organizations"):
            connection.sql(COUNT)
        assert connection.sql(f"select count(*) from {TABLES[REGISTER]}").to_arrow().num_rows == 1
        assert small.materialize(EXTRACTS, "2024-01-01|AK")
        connection.refresh()
        result = connection.sql(COUNT)
        assert result.stats.files_total == 1


@pytest.mark.usefixtures("retries_at_once")
def test_a_run_that_fails_half_way_leaves_what_was_logged(small: Lake) -> None:
    with small.connect() as connection:
        before = connection.sql(COUNT).to_arrow()
        failing = FailingHiveParquet(**Environment.read(small.variables).io_manager_fields())
        assert not small.materialize(EXTRACTS, "2024-01-02|AL", "2024-01-02|WY", hive_parquet=failing)
        assert connection.refresh().tables
        result = connection.sql(COUNT)
        assert result.to_arrow() == before
        assert result.stats.files_total == 3
        assert small.materialize(EXTRACTS, "2024-01-02|AL", "2024-01-02|WY")
        connection.refresh()
        again = connection.sql(COUNT)
        assert again.to_arrow().to_pylist() == [stored(small)]
        assert again.stats.files_total == 53


def test_a_deleted_object_is_named(small: Lake) -> None:
    [name] = [name for name in small.objects(EXTRACTS) if "state=AK" in name]
    with small.connect() as connection:
        small.delete(name)
        with pytest.raises(StaleObjectError) as raised:
            connection.sql(COUNT).to_arrow()
        assert f"s3://{small.bucket}/{name}" in str(raised.value)
        assert "2024-01-01|AK" in str(raised.value)
        rest = connection.sql(f"{COUNT} where state <> 'AK'")
        assert rest.to_arrow().to_pylist() == [stored(small)]
        assert small.materialize(EXTRACTS, "2024-01-01|AK")
        assert connection.sql(COUNT).to_arrow().to_pylist() == [stored(small)]


@pytest.mark.usefixtures("retries_at_once")
def test_a_store_that_is_down_is_named(services: Services, database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with services.object_store(tmp_path / "s3") as store, lake(database, store, home) as deployment:
        assert deployment.materialize(REGISTER)
        with deployment.connect() as copied, deployment.connect(DAGFUSION_OBJECT_CACHE_DIR="none") as connection:
            query = f"select count(*) as n from {TABLES[REGISTER]} where npi > 0"
            for one in (copied, connection):
                assert one.sql(query).to_arrow()["n"].to_pylist() == [10_000]
            store.stop()
            assert copied.sql(query).to_arrow()["n"].to_pylist() == [10_000]
            with pytest.raises(StoreUnavailableError) as raised:
                connection.sql(query).to_arrow()
            assert deployment.variables["AWS_ENDPOINT_URL"] in str(raised.value)
        assert not deployment.materialize(REGISTER)
        assert len(deployment.instance.fetch_materializations(REGISTER, limit=10).records) == 1


def test_a_database_that_restarts_is_found_again(small: Lake, database: Database) -> None:
    with small.connect() as connection:
        before = connection.sql(COUNT).to_arrow()
        database.restart()
        assert connection.sql(COUNT).to_arrow() == before
        assert small.materialize(EXTRACTS, "2024-01-02|AK")
        assert eventually(lambda: connection.sql(COUNT).stats.files_total == 4)
