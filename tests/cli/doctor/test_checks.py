"""The pure checks: a healthy value has no fault, and each change of it has the fault of its name."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_cli.doctor.bucket_facts import (
    BucketFacts,
    Comparison,
    ListedObject,
    in_both,
    list_objects,
    read_bucket_facts,
)
from dagfusion_cli.doctor.checks import (
    BLOCKS,
    KNOWN_SCHEMAS,
    CheckpointFacts,
    check_bucket,
    check_checkpoint,
    check_clock,
    check_environment,
    check_rights,
    check_schema_version,
    check_service,
    unknown_facts,
    unreachable,
)
from dagfusion_client.errors import EventLogSchemaError
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.event_log.postgres_connection import DatabaseFacts
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import Settings

GUIDE = "docs/how-to/deployment.md"
HEALTHY = BucketFacts(
    "lake",
    region="us-east-2",
    public_access_block=dict.fromkeys(BLOCKS, True),
    encryption="aws:kms",
    versioning="Enabled",
    lifecycle=(
        {"Status": "Enabled", "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}]},
        {"Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ),
)
CHANGES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "bucket_public": st.sampled_from(BLOCKS).map(
        lambda name: {"public_access_block": {**HEALTHY.public_access_block, name: False}}
    ),
    "bucket_unencrypted": st.just({"encryption": None}),
    "bucket_unversioned": st.sampled_from([None, "Suspended"]).map(lambda state: {"versioning": state}),
    "bucket_without_lifecycle": st.just({"lifecycle": HEALTHY.lifecycle[1:]}),
    "bucket_keeps_parts": st.just({"lifecycle": HEALTHY.lifecycle[:1]}),
    "bucket_region": st.sampled_from(["eu-west-1", "us-east-1"]).map(lambda region: {"region": region}),
    "bucket_unreachable": st.just({"problem": "AccessDenied"}),
}
READER = DatabaseFacts(
    "reader", is_privileged=False, may_create=False, writable=(), schema_version="29b539ebc72a", now_s=0
)


def names(faults: Any) -> list[str]:
    return [fault.name for fault in faults]


def test_a_healthy_bucket_has_no_fault() -> None:
    assert names(check_bucket(HEALTHY, "us-east-2")) == []


@given(st.sampled_from(sorted(CHANGES)), st.data())
def test_each_change_of_a_bucket_is_the_fault_of_its_name(name: str, data: st.DataObject) -> None:
    changed = replace(HEALTHY, **data.draw(CHANGES[name]))
    assert names(check_bucket(changed, "us-east-2")) == [name]
    if name != "bucket_unreachable":
        unknown = replace(changed, unknown={name: "AccessDenied"})
        assert names(check_bucket(unknown, "us-east-2")) == []
        assert [one.check for one in unknown_facts(unknown)] == [name]


def test_a_disabled_rule_is_none() -> None:
    disabled = replace(HEALTHY, lifecycle=[{**rule, "Status": "Disabled"} for rule in HEALTHY.lifecycle])
    assert names(check_bucket(disabled, None)) == ["bucket_without_lifecycle", "bucket_keeps_parts"]


@pytest.mark.parametrize(
    "change", [{"is_privileged": True}, {"may_create": True}, {"writable": ("event_logs", "runs", "a", "b")}]
)
def test_rights_that_reading_does_not_need(change: dict[str, Any]) -> None:
    assert names(check_rights(READER, "db")) == []
    assert names(check_rights(replace(READER, **change), "db")) == ["database_rights"]


def test_the_advised_rights_are_those_of_the_guide(root: Path) -> None:
    [guide] = re.findall(r"^GRANT SELECT ON (.+) TO dagfusion_reader;$", (root / GUIDE).read_text(), re.MULTILINE)
    [fault] = check_rights(replace(READER, may_create=True), "db")
    refused = unreachable(EventLogSchemaError("permission denied for table runs"), "db")
    for step in (fault.next_step, refused.next_step):
        assert re.findall(r"`grant select on (.+)`", step) == [guide]


@given(st.none() | st.text())
def test_only_known_schemas_are_known(version: str | None) -> None:
    found = names(check_schema_version(replace(READER, schema_version=version), "db"))
    assert found == ([] if version in KNOWN_SCHEMAS else ["schema_version_unknown"])


def test_the_schema_of_the_installed_dagster_is_known() -> None:
    config = Config()
    config.set_main_option("script_location", f"{dagster.__path__[0]}/_core/storage/alembic")
    assert set(ScriptDirectory.from_config(config).get_heads()) <= KNOWN_SCHEMAS


@given(st.floats(-1e6, 1e6))
def test_a_clock_may_differ_a_little(skew_s: float) -> None:
    assert names(check_clock(skew_s, "db")) == (["clock_skew"] if abs(skew_s) > 30 else [])


@pytest.mark.parametrize(("anonymous", "faults"), [("auto", []), ("never", []), ("loopback", 1), ("always", 1)])
def test_access_without_a_token(anonymous: str, faults: Any) -> None:
    assert names(check_service(ServiceSettings(anonymous=anonymous))) == (["open_access"] if faults else [])


@pytest.mark.parametrize(
    ("remote", "faults"),
    [("sc://s:1/;token=hidden", ["plain_secret"]), ("sc://s:1", []), ("secretsmanager://spark#token=", [])],
)
def test_a_token_of_spark_in_the_clear(remote: str, faults: list[str]) -> None:
    found = list(check_service(ServiceSettings(spark_remote=remote)))
    assert names(found) == faults
    assert "hidden" not in str(found)


def environment(name: str, **settings: Any) -> EnvironmentConfig:
    return EnvironmentConfig(name, Settings(environment=name, **settings))


@pytest.mark.parametrize(
    ("name", "settings", "faults"),
    [
        ("uat", {"event_log": "secretsmanager://db"}, []),
        ("uat", {"event_log": "postgresql://reader@db/dagster"}, []),
        ("uat", {"event_log": "postgresql://reader:hidden@db/dagster"}, ["plain_secret"]),
        ("local", {"event_log": "postgresql://reader:hidden@db/dagster"}, []),
        ("prod", {"access_key_id": "a", "secret_access_key": "hidden"}, ["plain_secret"]),
        ("prod", {"access_key_id": "a", "secret_access_key": "secretsmanager://keys#secret"}, []),
        ("prod", {"endpoint_url": "http://minio:9000"}, ["plain_http"]),
        ("prod", {"endpoint_url": "http://127.0.0.1:9000"}, []),
        ("prod", {"endpoint_url": "https://minio:9000"}, []),
    ],
)
def test_settings(name: str, settings: dict[str, Any], faults: list[str]) -> None:
    found = list(check_environment(environment(name, **settings)))
    assert names(found) == faults
    assert "hidden" not in str(found)


@given(st.lists(st.text("abc", max_size=2)), st.lists(st.text("abc", max_size=2)))
def test_what_two_comparisons_agree_on(first: list[str], second: list[str]) -> None:
    both = in_both(Comparison(missing=first, changed=second), Comparison(missing=second, changed=second))
    assert set(both.missing) == set(first) & set(second)
    assert list(both.changed) == second


class Client:
    """boto3's client of S3, as far as a listing and one refused operation go."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys

    def get_paginator(self, _: str) -> "Client":
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        at = datetime(2024, 1, 1, tzinfo=UTC)
        return [{"Contents": [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": at} for key in self.keys]}]


def test_a_listing_leaves_out_tables_whose_names_begin_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_cli.doctor.bucket_facts.folders", lambda _: ["s3://lake/p/orders"])
    keys = [
        "p/orders/a.parquet",
        "p/orders.parquet",
        "p/orders-run.parquet",
        "p/orders_old/a.parquet",
        "p/orders2.parquet",
    ]
    table: Any = None
    listing = list_objects(Client(keys), table, 10)
    assert [uri.removeprefix("s3://lake/") for uri in listing.objects] == keys[:3]
    assert listing.is_complete
    assert listing.objects["s3://lake/p/orders.parquet"] == ListedObject(
        "s3://lake/p/orders.parquet", 1, "e", datetime(2024, 1, 1, tzinfo=UTC), "STANDARD"
    )
    assert not list_objects(Client(keys), table, 2).is_complete
    assert list_objects(Client(keys), table, 3).is_complete


class Denying:
    """boto3's client of a role that may list one folder, and read some settings."""

    def __init__(self, folder: str, *, reads: bool) -> None:
        self.folder, self.reads = folder, reads

    def list_objects_v2(self, *, Prefix: str, **_: Any) -> dict[str, Any]:  # noqa: N803  # as boto3 has them
        if Prefix != self.folder:
            raise self._denied()
        return {"ResponseMetadata": {"HTTPHeaders": {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}}}

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> dict[str, Any]:
            if not self.reads:
                raise self._denied()
            return {}

        return call

    @staticmethod
    def _denied() -> ClientError:
        return ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPHeaders": {}}}, "any")


@pytest.mark.parametrize(
    ("folders", "reads", "problem", "unknown"),
    [
        (["a", "mine"], True, None, False),
        (["mine", "a"], True, None, False),
        (["a", "b"], True, None, True),
        ([], True, None, True),
        ([], False, "AccessDenied", False),
        (["a"], False, "AccessDenied", False),
        ([f"t{number:02}" for number in range(10)], False, "AccessDenied", False),
        ([*(f"t{number:02}" for number in range(10)), "mine"], False, None, True),
        ([*(f"t{number:02}" for number in range(10)), "mine"], True, None, True),
    ],
)
def test_a_role_may_list_some_folders_only(
    folders: list[str],
    reads: bool,  # noqa: FBT001
    problem: str | None,
    unknown: bool,  # noqa: FBT001
) -> None:
    found = read_bucket_facts(Denying("mine", reads=reads), "lake", folders)
    assert found.problem == problem
    assert ("bucket_unreachable" in found.unknown) is unknown
    if unknown:
        assert ("the first 10 folders" in found.unknown["bucket_unreachable"]) is (len(folders) > 10)


def test_a_server_that_is_behind_is_measured() -> None:
    class Bucket:
        def list_objects_v2(self, **_: Any) -> dict[str, Any]:
            return {"ResponseMetadata": {"HTTPHeaders": {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}}}

        def __getattr__(self, name: str) -> Any:
            return lambda **_: {}

    now = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=5)
    assert read_bucket_facts(Bucket(), "lake", clock=now.timestamp).skew_s == 300


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (CheckpointFacts(None), []),
        (CheckpointFacts("s3://b/c", written_at_s=5.0), []),
        (CheckpointFacts(None, purged=("a/x", "a/y")), ["event_log_purged"]),
        (CheckpointFacts("s3://b/c"), ["checkpoint_missing"]),
        (CheckpointFacts("s3://b/c", "damaged", written_at_s=5.0), ["checkpoint_unusable"]),
        (CheckpointFacts("s3://b/c", written_at_s=5.0, missed=3), ["checkpoint_stale"]),
        (CheckpointFacts("s3://b/c", purged=("a/x",)), ["event_log_purged", "checkpoint_missing"]),
    ],
)
def test_a_checkpoint_that_would_not_help_is_a_fault(facts: CheckpointFacts, names: list[str]) -> None:
    assert [fault.name for fault in check_checkpoint(facts, "event log of uat")] == names
