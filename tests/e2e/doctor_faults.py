"""The faults that `dagfusion doctor` finds, injected into a healthy environment one at a time."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import psycopg
import pytest

from dagfusion_cli.doctor.checks import BLOCKS
from dagfusion_cli.doctor.examination import Scope
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.scan import large_objects
from tests.e2e.lake import EXTRACTS, REGISTER, Lake
from tests.waiting import eventually

READER = "doctor_reader"
AT_ONCE = Scope(orphans_after_h=0.0)
PRIVATE = dict.fromkeys(BLOCKS, True)
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
ABORT = {
    "ID": "abort",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}
EXPIRE = {"ID": "expire", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 365}}
FOREIGN = dg.AssetKey(["Silver", "Tax_ID", "raw_organizations"])  # in snake case, the register's
REFUSED = dg.AssetKey(["Silver", "Refused", "rows"])

Injected = AbstractContextManager[tuple[EnvironmentConfig, Scope]]


@dataclass
class World:
    """A healthy environment."""

    lake: Lake
    config: EnvironmentConfig
    toml: Path

    @property
    def s3(self) -> Any:
        return self.lake.s3

    @property
    def bucket(self) -> str:
        return self.lake.bucket

    def event_log(self, key: str) -> EnvironmentConfig:
        settings = replace(self.config.settings, event_log=f"{secret_of(self.toml)}#{key}")
        return replace(self.config, settings=settings)

    def run(self, statement: str) -> None:
        with psycopg.connect(self.lake.event_log, autocommit=True) as connection:
            connection.execute(statement.encode())

    def report(self, key: dg.AssetKey, metadata: dict[str, Any]) -> None:
        self.lake.instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))


def administer(deployment: Lake) -> None:
    s3, bucket = deployment.s3, deployment.bucket
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=PRIVATE)
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=ENCRYPTED)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [ABORT, EXPIRE]})


def secret_of(toml: Path) -> str:
    return toml.read_text().partition('event_log = "')[2].partition("#")[0]


FAULTS: dict[str, Callable[[World], Injected]] = {}


def fault(inject: Callable[[World], Iterator[tuple[EnvironmentConfig, Scope] | None]]) -> None:
    """Register an injection; it yields the environment to examine, if that is another."""

    @contextmanager
    def injected(world: World) -> Iterator[tuple[EnvironmentConfig, Scope]]:
        steps = inject(world)
        try:
            yield next(steps) or (world.config, AT_ONCE)
        finally:
            next(steps, None)

    FAULTS[inject.__name__] = injected


Injection = Iterator[tuple[EnvironmentConfig, Scope] | None]


@fault
def database_unreachable(world: World) -> Injection:
    yield world.event_log("unreachable"), AT_ONCE


@fault
def database_not_dagster(world: World) -> Injection:
    yield world.event_log("other"), AT_ONCE


@fault
def database_rights(world: World) -> Injection:
    yield world.event_log("owner"), AT_ONCE


@fault
def schema_version_unknown(world: World) -> Injection:
    world.run("create table kept_version as select version_num from alembic_version")
    world.run("update alembic_version set version_num = '000000000000'")
    yield None
    world.run("update alembic_version set version_num = (select version_num from kept_version)")
    world.run("drop table kept_version")


@fault
def plain_secret(world: World) -> Injection:
    reader = boto3.client("secretsmanager", region_name="us-east-1")
    text = reader.get_secret_value(SecretId=secret_of(world.toml).removeprefix("secretsmanager://"))["SecretString"]
    reader.close()
    settings = replace(world.config.settings, event_log=json.loads(text)["url"])
    yield replace(world.config, settings=settings), AT_ONCE


@fault
def plain_http(world: World) -> Injection:
    settings = replace(world.config.settings, endpoint_url=world.lake.variables["AWS_ENDPOINT_URL"])
    yield replace(world.config, settings=settings), AT_ONCE


@fault
def clock_skew(world: World) -> Injection:
    yield world.config, Scope(orphans_after_h=1.5, clock=lambda: time.time() + 3600)


@fault
def bucket_unreachable(world: World) -> Injection:
    yield replace(world.config, settings=replace(world.config.settings, endpoint_url="http://127.0.0.1:1")), AT_ONCE


@fault
def bucket_region(world: World) -> Injection:
    yield replace(world.config, settings=replace(world.config.settings, region="eu-west-1")), AT_ONCE


@fault
def bucket_public(world: World) -> Injection:
    world.s3.put_public_access_block(
        Bucket=world.bucket, PublicAccessBlockConfiguration={**PRIVATE, "RestrictPublicBuckets": False}
    )
    yield None
    administer(world.lake)


@fault
def bucket_unencrypted(world: World) -> Injection:
    world.s3.delete_bucket_encryption(Bucket=world.bucket)
    yield None
    administer(world.lake)


@fault
def bucket_unversioned(world: World) -> Injection:
    world.s3.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Suspended"})
    yield None
    administer(world.lake)


@fault
def bucket_without_lifecycle(world: World) -> Injection:
    disabled = {**EXPIRE, "Status": "Disabled"}
    rules = {"Rules": [ABORT, disabled]}
    world.s3.put_bucket_lifecycle_configuration(Bucket=world.bucket, LifecycleConfiguration=rules)
    yield None
    administer(world.lake)


@fault
def bucket_keeps_parts(world: World) -> Injection:
    world.s3.put_bucket_lifecycle_configuration(Bucket=world.bucket, LifecycleConfiguration={"Rules": [EXPIRE]})
    yield None
    administer(world.lake)


def first_object(world: World) -> str:
    return min(world.lake.objects(EXTRACTS))


@contextmanager
def restored(world: World, key: str) -> Iterator[None]:
    """Delete what was written of an object since, so that its version before counts again."""
    kept = world.s3.head_object(Bucket=world.bucket, Key=key)["VersionId"]
    yield  # what follows runs after a failed test, too
    found = world.s3.list_object_versions(Bucket=world.bucket, Prefix=key)
    for version in (*found.get("Versions", ()), *found.get("DeleteMarkers", ())):
        if version["VersionId"] != kept:
            world.s3.delete_object(Bucket=world.bucket, Key=key, VersionId=version["VersionId"])


@fault
def objects_missing(world: World) -> Injection:
    with restored(world, first_object(world)):
        world.lake.delete(first_object(world))
        yield None


@fault
def objects_changed(world: World) -> Injection:
    with restored(world, first_object(world)):
        world.s3.put_object(Bucket=world.bucket, Key=first_object(world), Body=b"other bytes")
        yield None


@fault
def objects_archived(world: World) -> Injection:
    key = first_object(world)
    with restored(world, key):
        source = {"Bucket": world.bucket, "Key": key}
        world.s3.copy_object(Bucket=world.bucket, Key=key, CopySource=source, StorageClass="GLACIER")
        yield None


@fault
def objects_orphaned(world: World) -> Injection:
    key = first_object(world).replace("data.parquet", "data-without-event.parquet")
    version = world.s3.put_object(Bucket=world.bucket, Key=key, Body=b"PAR1")["VersionId"]
    modified = world.s3.head_object(Bucket=world.bucket, Key=key)["LastModified"]
    assert eventually(lambda: datetime.now(UTC) > modified + timedelta(seconds=1))  # S3's times are whole seconds
    yield None
    world.s3.delete_object(Bucket=world.bucket, Key=key, VersionId=version)


@fault
def name_collision(world: World) -> Injection:
    event = world.lake.instance.get_latest_materialization_event(REGISTER)
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    world.report(FOREIGN, {"dagfusion/file": materialization.metadata["dagfusion/file"]})
    yield None
    world.lake.instance.wipe_assets([FOREIGN])


@fault
def table_unusable(world: World) -> Injection:
    world.report(REFUSED, {"dagfusion/file": dg.MetadataValue.json({"version": 999})})
    yield None
    world.lake.instance.wipe_assets([REFUSED])


@fault
def small_files(world: World) -> Injection:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_objects, "MANY_FILES", 2)
        yield world.config, AT_ONCE


@fault
def table_incomplete(world: World) -> Injection:
    newer = dg.AssetMaterialization(
        EXTRACTS,
        partition="2024-01-09|CA",
        metadata={"dagfusion/file": dg.MetadataValue.json({"version": 999})},
    )
    world.lake.instance.report_runless_asset_event(newer)
    yield None
    world.run("delete from event_logs where partition = '2024-01-09|CA'")
