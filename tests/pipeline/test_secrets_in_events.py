"""A run with keys in its IO manager stores none of them: not in events, not in what else Dagster keeps."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._serdes import serialize_value

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager

MANAGERS = (S3ParquetIOManager, PartitionedS3ParquetIOManager)
WRONG = {"access_key_id": "id-of-nobody-8361", "secret_access_key": "secret-of-nobody-8361"}


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["CA", "NY"]))
def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
    context.log.info("two rows")
    return pl.DataFrame({"n": [1, 2]})


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["CA", "NY"]))
def copies(orgs: pl.DataFrame) -> pl.DataFrame:
    return orgs


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("own", [{}, WRONG], ids=["right", "wrong"])
def test_no_key_is_in_the_events_of_a_run(
    manager: type[S3ParquetIOManager], own: dict[str, str], fields: dict[str, Any], tmp_path: Path
) -> None:
    keys = {name: own.get(name, fields[name]) for name in WRONG}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        result = dg.materialize(
            [orgs, copies],
            resources={"io_manager": manager(**{**fields, **keys})},
            instance=instance,
            partition_key="CA",
            raise_on_error=False,
        )
        assert result.success is not bool(own)
        events = [serialize_value(entry) for entry in instance.all_logs(result.run_id)]
        run = serialize_value(instance.get_run_by_id(result.run_id))
    if own:
        assert any("could not write s3://lake/" in event for event in events)
    else:
        assert len(result.get_asset_materialization_events()) == 2
        assert any("dagfusion/file" in event for event in events)
    assert len(events) > 10
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert result.run_id.encode() in stored
    for key in own.values() or [keys["secret_access_key"]]:  # the other one is also a word of module names
        assert len(key) > 15
        assert [event for event in events if key in event] == []
        assert key not in run
        assert key.encode() not in stored
