"""A purged event log and a lost state folder lose no table."""

import json
from pathlib import Path

import psycopg
import pytest

from dagfusion_client.abstract_connection import Connection
from dagfusion_query.connector import connect
from tests.e2e.lake import EXTRACTS, REGISTER, TABLES, Lake
from tests.e2e.serving import service
from tests.waiting import eventually

COUNTS = " union all ".join(
    f"select '{TABLES[key]}' as name, count(*) as n from {TABLES[key]}" for key in (REGISTER, EXTRACTS)
)
PARTITIONS = f"select count(distinct concat(date, state)) as n from {TABLES[EXTRACTS]}"
MANIFEST = "_catalog/checkpoint.json"


def written(lake: Lake) -> bool:
    found = lake.s3.list_objects_v2(Bucket=lake.bucket, Prefix=MANIFEST)
    return bool(found["KeyCount"] == 1)


def counts(connection: Connection) -> list[str]:
    return sorted(map(str, connection.sql(COUNTS).to_arrow().to_pylist()))


def purge(lake: Lake) -> None:
    """Delete all runs as Dagster does, and what is left of the events in the database."""
    for run in lake.instance.get_runs():
        lake.instance.delete_run(run.run_id)
    with psycopg.connect(lake.event_log, autocommit=True) as connection:
        connection.execute("delete from event_logs")


@pytest.mark.usefixtures("long")
def test_a_purged_event_log_and_a_lost_state_folder_lose_no_table(small: Lake, tmp_path: Path) -> None:
    checkpoint = {"DAGFUSION_CATALOG_CHECKPOINT": f"s3://{small.bucket}/_catalog"}
    folders = [tmp_path / name for name in ("before", "after", "embedded")]
    for folder in folders:
        folder.mkdir()
    of_service = {"DAGFUSION_LOCAL_CATALOG_CHECKPOINT": checkpoint["DAGFUSION_CATALOG_CHECKPOINT"]}
    with (
        service(folders[0], small, "local", **of_service) as server,
        connect(server.url, settings={}) as connection,
    ):
        before = counts(connection)
        assert eventually(lambda: written(small))
        assert small.materialize(EXTRACTS, "2024-01-02|AK")
        assert eventually(lambda: counts(connection) != before)
        latest = counts(connection)
    purge(small)

    with (
        service(folders[1], small, "local", **of_service) as server,
        connect(server.url, settings={}) as connection,
        small.connect(**checkpoint, DAGFUSION_STATE_DIR=str(folders[2])) as embedded,
    ):
        for one in (connection, embedded):
            assert counts(one) == latest, "written when it was stopped"
        assert small.materialize(EXTRACTS, "2024-01-02|AL")
        embedded.refresh()
        assert eventually(lambda: counts(connection) == counts(embedded))
        assert embedded.sql(PARTITIONS).to_arrow()["n"].to_pylist() == [5]
        small.instance.wipe_assets([EXTRACTS])
        embedded.refresh()
        assert [table.name for table in embedded.tables()] == [TABLES[REGISTER]]
    manifest = small.s3.get_object(Bucket=small.bucket, Key=MANIFEST)["Body"].read()
    assert json.loads(manifest.partition(b"\n")[2])["format"] >= 6
