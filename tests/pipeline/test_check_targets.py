"""The materialization that a check's result names, beside what Dagster itself finds."""

import dagster as dg
import pytest

from dagfusion_pipeline import partition_checks

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
MULTI = dg.MultiPartitionsDefinition({"date": DAYS, "state": dg.StaticPartitionsDefinition(["CA", "NY"])})
ASSET = dg.AssetSpec("orgs", partitions_def=MULTI)


@dg.asset_check(asset=ASSET.key)
def of_dagster() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.mark.usefixtures("heavy")
def test_a_result_names_the_materialization_that_dagster_names_without_its_objects_of_keys(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, Dagster asks for the materialization in another way, and each run takes longer."""
    ours = partition_checks(ASSET, complete=True, rows=(1, None))
    assert _targets(ours, instance) == [None] * 2
    instance.report_runless_asset_event(dg.AssetObservation(ASSET.key))
    assert _targets(ours, instance) == [None] * 2
    for partition in ("2024-01-01|CA", "2024-01-02|NY"):
        instance.report_runless_asset_event(dg.AssetMaterialization(ASSET.key, partition=partition))
    [expected] = _targets(of_dagster, instance)
    assert expected is not None
    monkeypatch.setattr(dg.MultiPartitionsDefinition, "get_partition_keys", _refuse)
    assert _targets(ours, instance) == [expected] * 2


def _targets(checks: dg.AssetChecksDefinition, instance: dg.DagsterInstance) -> list[object]:
    job = dg.define_asset_job("job", selection=dg.AssetSelection.checks(checks))
    defs = dg.Definitions(assets=[ASSET], asset_checks=[checks], jobs=[job])
    result = defs.resolve_job_def("job").execute_in_process(instance=instance)
    return [one.target_materialization_data for one in result.get_asset_check_evaluations()]


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("Dagster's objects of keys take longer than all else")
