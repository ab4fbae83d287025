"""A full folder for temporary files: clear errors, no lost worker, and answers again when there is room."""

import pyarrow as pa
import pytest

from dagfusion_client.errors import ResourcesError
from tests.query.disk import SmallDisk
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import PublishedCatalogs, Serve

TABLE = "local_silver_tax_id.orgs"
SPILLS = (
    "SELECT count(*) FROM (SELECT s, count(*) FROM (SELECT md5(x::text) AS s FROM generate_series(1, 1000000) a(x)) "
    "GROUP BY s)"
)


def test_statements_fail_and_no_worker_dies(small_disk: SmallDisk, lake: Lake, new_served: Serve) -> None:
    catalogs = PublishedCatalogs(small_disk.folder.parent / "service")
    catalogs.publish(lake.snapshot)
    served = new_served(catalogs, workers=1, engine={"memory_limit_bytes": 32 << 20})
    served.wait_for(lambda: served.service._pool.live == 2)

    small_disk.fill()
    planning = served.error(f"SELECT sum(length(name)) FROM {TABLE}")
    assert isinstance(planning, ResourcesError)
    assert "cannot be planned because the folder for temporary files (TMPDIR)" in str(planning)
    assert str(small_disk.folder) not in str(planning)
    spilling = served.error(SPILLS)
    assert isinstance(spilling, ResourcesError)
    assert "more room for temporary files than there is" in str(spilling)
    assert served.rows("SELECT 1 AS n") == [{"n": 1}]

    small_disk.empty()
    for _ in range(2):  # each worker
        assert served.rows(f"SELECT sum(length(name)) AS n FROM {TABLE}") == [
            {"n": 6 * sum(len(f"name {i}") for i in range(1000))}
        ]
    # On a busy machine a thread may outlive the statement that spills, and its worker ends for that in order.
    restarts = served.ask(lambda: served.service._pool.restarts)
    assert {reason for reason, count in restarts.items() if count} <= {"did not yield"}
    served.wait_for(lambda: served.service._pool.live == 2)


def test_the_embedded_engine_says_so_too(small_disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = Lake(tmp_path_factory.mktemp("embedded"))
    lake.write(("Silver", "TaxID", "orgs"), pa.table({"name": ["a", "b"]}), {"state": pa.scalar("CA")})
    small_disk.fill()
    for _ in range(2):
        with pytest.raises(ResourcesError, match="cannot be planned because the folder for temporary files"):
            lake.rows(f"SELECT sum(length(name)) AS n FROM {TABLE}")
    small_disk.empty()
    assert lake.rows(f"SELECT sum(length(name)) AS n FROM {TABLE}") == [{"n": 2}]
    lake.engine.close()
