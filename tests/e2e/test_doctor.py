"""`dagfusion doctor` over real servers: each injected fault by its name, and nothing of a healthy environment."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
from typer.testing import CliRunner

from dagfusion_cli.doctor.examination import Scope, examine
from dagfusion_cli.main import app
from dagfusion_query.config import EnvironmentConfig, read_config
from tests.doctest.documents import ROOT, blocks
from tests.e2e.doctor_faults import AT_ONCE, FAULTS, READER, World, administer
from tests.e2e.lake import EXTRACTS, REGISTER, TABLES, Lake, lake
from tests.e2e.services import Services
from tests.server.processes.process import run


@pytest.fixture(scope="module")
def world(
    services: Services, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    if services.name != "containers":
        pytest.skip("only LocalStack has public access blocks, lifecycle rules and Secrets Manager")
    database, store = request.getfixturevalue("database"), request.getfixturevalue("object_store")
    folder = tmp_path_factory.mktemp("doctor")
    with lake(database, store, folder) as deployment, pytest.MonkeyPatch.context() as patch:
        assert deployment.materialize(REGISTER)
        assert deployment.materialize(EXTRACTS, "2024-01-01|AL", "2024-01-01|AZ")
        own = deployment.variables
        (folder / "credentials").write_text(
            f"[default]\naws_access_key_id = {own['AWS_ACCESS_KEY_ID']}\n"
            f"aws_secret_access_key = {own['AWS_SECRET_ACCESS_KEY']}\n"
        )
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        endpoint = f"http://127.0.0.1:{urlsplit(own['AWS_ENDPOINT_URL']).port}"
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        administer(deployment)
        with psycopg.connect(deployment.event_log, autocommit=True) as connection:
            connection.execute(f"create role {READER} login password 'doctor-password'".encode())
            connection.execute(documented_grant().encode())
        toml = folder / "dagfusion.toml"
        toml.write_text(
            '[service]\nanonymous = "never"\n\n[environments.uat]\n'
            f'event_log = "secretsmanager://{secret(deployment)}#url"\ns3_bucket = "{deployment.bucket}"\n'
            'aws_region = "us-east-1"\n'
        )
        config = read_config({"AWS_ENDPOINT_URL": endpoint}, file=toml).environments[0]
        yield World(deployment, config, toml)
        with psycopg.connect(deployment.event_log, autocommit=True) as connection:
            connection.execute(f"drop owned by {READER}".encode())
            connection.execute(f"drop role {READER}".encode())


def documented_grant() -> str:
    """The rights that the guide gives the reader of the event log, and no more."""
    sql = (block.code for block in blocks(ROOT / "docs/how-to/deployment.md") if block.language == "sql")
    [grant] = [line for code in sql for line in code.splitlines() if line.startswith("GRANT SELECT")]
    return grant.replace("dagfusion_reader", READER)


def secret(deployment: Lake) -> str:
    """The ARN of a secret that has the URLs of the database, as it should be and as it should not."""
    parts = urlsplit(deployment.event_log)
    reader = f"postgresql://{READER}:doctor-password@{parts.hostname}"
    urls = {
        "url": f"{reader}:{parts.port}{parts.path}",
        "unreachable": f"{reader}:1{parts.path}",
        "other": f"{reader}:{parts.port}/postgres",
        "owner": deployment.event_log,
    }
    client = boto3.client("secretsmanager", region_name="us-east-1")
    arn = str(client.create_secret(Name=f"doctor-{deployment.bucket}", SecretString=json.dumps(urls))["ARN"])
    client.close()
    return arn


def names(config: EnvironmentConfig, scope: Scope) -> list[str]:
    found = examine(config, scope)
    assert found.unknown == []
    assert all(fault.where and fault.what and fault.next_step for fault in found.faults)
    assert "doctor-password" not in str(found)
    return sorted({fault.name for fault in found.faults})


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_by_its_name_alone(world: World, name: str) -> None:
    with FAULTS[name](world) as (config, scope):
        assert names(config, scope) == [name]


def test_a_healthy_environment_is_silent(world: World) -> None:
    assert len(FAULTS) >= 15
    assert names(world.config, AT_ONCE) == []
    done = command(world)
    healthy, cost = done.stdout.splitlines()
    assert (done.returncode, healthy, done.stderr) == (0, "healthy", "")
    assert cost.startswith("cost of uat: $0.00 a month for 4 objects (0.000 GiB) and their uploads, at prices of")


def test_the_command_names_faults_for_people_and_for_programs(world: World) -> None:
    with FAULTS["objects_missing"](world):
        shown, document = command(world), command(world, "--json")
    assert (shown.returncode, document.returncode) == (1, 1)
    table = TABLES[EXTRACTS].replace("local_", "uat_")
    assert shown.stdout.startswith(f"objects_missing  {table}\n  1 of 3 objects are not in the bucket: s3://")
    assert "next: restore their last versions, or materialize asset Silver/TaxID/partitioned_organizations again" in (
        shown.stdout
    )
    found = json.loads(document.stdout)
    assert found["healthy"] is False
    assert [fault["name"] for fault in found["environments"][0]["faults"]] == ["objects_missing"]


def test_faults_of_objects_are_repaired(small: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    home = {"DAGSTER_HOME": small.instance.root_directory, "DAGFUSION_EVENT_LOG": small.event_log}
    for name, value in {**small.variables, **home}.items():
        monkeypatch.setenv(name, value)

    def repaired(*options: str) -> Any:
        done = CliRunner().invoke(app, ["doctor", "--repair", "--orphans-after-hours", "0", "--json", *options])
        document = json.loads(done.stdout)
        named = {fault["name"]: fault["where"] for one in document["environments"] for fault in one["faults"]}
        return {name: table for name, table in named.items() if name.startswith("objects_")}, document["repair"]

    missing, changed, other = small.objects(EXTRACTS)
    copied = small.s3.get_object(Bucket=small.bucket, Key=other)["Body"].read()
    small.delete(missing)
    small.s3.put_object(Bucket=small.bucket, Key=changed, Body=copied)
    small.s3.put_object(Bucket=small.bucket, Key=f"{missing.rpartition('/')[0]}/other.parquet", Body=copied)
    table = TABLES[EXTRACTS]
    orphaned = {"objects_orphaned": table}
    for options in ((), ("--yes",)):
        faults, repair = repaired(*options)
        assert faults == {"objects_missing": table, "objects_changed": table, **orphaned}
        (done,) = repair["tables"]
        assert (done["table"], len(done["missing"]), len(done["changed"])) == (table, 1, 1)
        assert [(left["table"], left["fault"]) for left in repair["left"]] == [(table, "objects_orphaned")]
    faults, repair = repaired()
    assert (faults, repair["tables"]) == (orphaned, [])


def test_what_cannot_be_examined_is_no_fault(world: World) -> None:
    done = command(world, "--max-objects", "1")
    assert done.returncode == 2
    assert "the limit of 1 objects was reached: raise --max-objects" in done.stderr
    assert command(world, "--environment", "nowhere").returncode == 2


def test_the_costs_of_the_environment(world: World) -> None:
    done = command(world, "--requests", "1000000", "--months", "13", "--json", name="cost")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["notes"] == []
    months = found["estimates"]["uat"]["months"]
    stored = sum(
        world.s3.head_object(Bucket=world.bucket, Key=key)["ContentLength"]
        for asset in (REGISTER, EXTRACTS)
        for key in world.lake.objects(asset)
    )
    (standard,) = months[0]["classes"]
    assert (standard["storage_class"], standard["objects"]) == ("STANDARD", 4)
    assert standard["gb"] == pytest.approx(stored / (1 << 30))
    assert [month["deleted"] for month in months] == [0] * 12 + [4]  # the rule expires objects of 365 days
    assert found["estimates"]["uat"]["requests_usd"] == pytest.approx(0.4)
    assert found["prices"]["region"] == "us-east-1"


def command(world: World, *options: str, name: str = "doctor") -> Any:
    return run(world.toml.parent, name, "--config", str(world.toml), *options)
