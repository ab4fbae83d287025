"""The settings of the service: arguments, variables, `dagfusion.toml`."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dagfusion_client.errors import SettingsError
from dagfusion_contract.setting_declarations import declared
from dagfusion_query.config import Config, read_config
from dagfusion_query.config_file import ENVIRONMENT_KEYS, PATHS, read_document
from dagfusion_query.service_settings import EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import Settings, listed

Write = Callable[[str], Path]
TWO = """
[service]
workers = 3
state_dir = "state"
[engine]
parallelism = 7
[environments.uat]
event_log = "postgresql://dagster:hush@db:5432/uat"
s3_bucket = "acme-uat"
dagster_url = "http://dagster.uat:3000/"
aws_access_key_id = {env = "UAT_KEY"}
aws_secret_access_key = "whisper"
metadata_keys = ["where", "path"]
[environments.prod]
event_log = "homes/prod"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write `dagfusion.toml` in an otherwise empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        path = tmp_path / "dagfusion.toml"
        path.write_text(text)
        return path

    return write


SECTIONS = {
    setting.name: setting
    for setting in (
        *declared(ServiceSettings, "service"),
        *declared(Settings, "service"),
        *declared(Settings, "engine"),
    )
}


def of_paths(config: Config) -> dict[str, str | None]:
    """Return the values of the settings that are paths, as the service and its only environment have them."""
    (environment,) = config.environments
    values = {**vars(environment.settings), **vars(config.service), "state_dir": str(config.state_dir)}
    return {name: values[name] for name in PATHS}


def written(values: dict[str, str]) -> str:
    """Return a file with one environment and these settings, each in its table."""
    tables = {"service": "[service]\n", "engine": "[engine]\n", "": '[environments.uat]\nevent_log = "home"\n'}
    for name, value in values.items():
        tables[SECTIONS[name].metadata["section"]] += f'{name} = "{value}"\n'
    return "".join(tables.values())


def test_a_setting_that_is_a_file_or_a_folder_is_declared_a_path() -> None:
    begins = re.compile(r"(The|PEM) (\w+ )?(file|folder)\b")
    assert sorted(PATHS) == sorted(name for name, one in SECTIONS.items() if begins.match(one.metadata["help"]))


def test_relative_paths_of_a_file_begin_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "etc" / "dagfusion.toml"
    file.parent.mkdir()
    file.write_text(written({name: f"of/{name}" for name in PATHS}))
    assert of_paths(read_config({}, file=file)) == {name: f"{file.parent}/of/{name}" for name in PATHS}
    file.write_text(written({name: f"/of/{name}" for name in PATHS}))
    assert of_paths(read_config({}, file=file)) == {name: f"/of/{name}" for name in PATHS}
    file.write_text(written({name: f"~/{name}" for name in PATHS}))
    assert of_paths(read_config({}, file=file)) == {name: str(Path.home() / name) for name in PATHS}


@pytest.mark.parametrize("name", [*SECTIONS, *ENVIRONMENT_KEYS])
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_text_of_a_file_is_refused(write: Write, name: str, empty: str) -> None:
    """No empty path is the folder of the file or of the process, and no empty name of a bucket means any bucket."""
    section = "environments.uat" if name in ENVIRONMENT_KEYS else SECTIONS[name].metadata["section"]
    write(f'[{section}]\n{name} = "{empty}"\n')
    if name == "metadata_keys":  # those of all environments
        assert read_document({}, None).environments == {"uat": {name: empty}}
        return
    with pytest.raises(SettingsError, match=rf"dagfusion.toml: \[{section}\] {name} must not be empty"):
        read_document({}, None)


def test_a_file_can_say_that_no_copies_and_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "etc" / "dagfusion.toml"
    file.parent.mkdir()
    file.write_text(written({"object_cache_dir": "none", "result_cache_dir": "none", "state_dir": "state"}))
    paths = of_paths(read_config({}, file=file))
    assert (paths["object_cache_dir"], paths["result_cache_dir"]) == ("none", "none")
    file.write_text(written({"state_dir": "none"}))
    with pytest.raises(SettingsError, match="DAGFUSION_STATE_DIR must be a folder for the service"):
        read_config({}, file=file)


def test_a_file_describes_environments(write: Write, tmp_path: Path) -> None:
    write(TWO)
    config = read_config({"UAT_KEY": "id"})
    uat, prod = config.environments
    assert (config.service.workers, config.state_dir) == (3, tmp_path / "state")
    assert (uat.name, uat.own.s3_bucket, uat.own.dagster_url) == ("uat", "acme-uat", "http://dagster.uat:3000")
    assert listed(uat.settings.metadata_keys) == ("where", "path")
    assert uat.settings.event_log == "postgresql://dagster:hush@db:5432/uat"
    assert (uat.settings.access_key_id, uat.settings.secret_access_key) == ("id", "whisper")
    assert (uat.settings.environment, uat.settings.region) == ("uat", "us-east-2")
    assert prod.settings.event_log == str(tmp_path / "homes/prod")
    assert prod.settings.access_key_id is None
    assert listed(prod.settings.metadata_keys) == ("dagster/uri", "uri", "path", "s3_path")
    assert [e.settings.parallelism for e in config.environments] == [7, 7]
    assert [e.settings.state_dir for e in config.environments] == [str(tmp_path / "state" / n) for n in ("uat", "prod")]


def test_variables_come_before_the_file(write: Write) -> None:
    write(TWO)
    variables = {
        "UAT_KEY": "id",
        "DAGFUSION_ENVIRONMENTS": "uat",
        "DAGFUSION_WORKERS": "5",
        "DAGFUSION_PARALLELISM": "2",
        "DAGFUSION_UAT_S3_BUCKET": "other",
        "DAGFUSION_UAT_AWS_ACCESS_KEY_ID": "mine",
        "DAGFUSION_UAT_AWS_SECRET_ACCESS_KEY": "own",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "everybody's",
        "AWS_SESSION_TOKEN": "theirs",
    }
    config = read_config(variables)
    (uat,) = config.environments
    assert (config.service.workers, uat.own.s3_bucket) == (5, "other")
    assert (uat.settings.parallelism, uat.settings.region) == (2, "eu-west-1")
    key = (uat.settings.access_key_id, uat.settings.secret_access_key, uat.settings.session_token)
    assert key == ("mine", "own", None), "no part of a key comes from another source"


@pytest.mark.usefixtures("write")
def test_environments_come_from_variables_alone() -> None:
    variables = {"DAGFUSION_ENVIRONMENTS": "uat, prod_eu", "DAGFUSION_UAT_EVENT_LOG": "/uat"}
    variables |= {"DAGFUSION_PROD_EU_EVENT_LOG": "/prod", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    names = {e.name: (e.settings.event_log, e.settings.access_key_id) for e in read_config(variables).environments}
    assert names == {"uat": ("/uat", "a"), "prod_eu": ("/prod", "a")}


def test_arguments_come_before_all(write: Write) -> None:
    write(TWO)
    variables = {"UAT_KEY": "id", "DAGFUSION_EVENT_LOG": "/elsewhere"}
    (only,) = read_config(variables, event_log="/here").environments
    assert (only.name, only.settings.event_log) == ("local", "/here")
    (uat,) = read_config(variables, event_log="/here", environment="uat").environments
    assert (uat.settings.event_log, uat.own.s3_bucket) == ("/here", "acme-uat")
    (chosen,) = read_config(variables, environment="prod").environments
    assert chosen.name == "prod"
    (new,) = read_config(variables, event_log="/here", environment="staging").environments
    assert (new.name, new.own.s3_bucket) == ("staging", None)


@pytest.mark.usefixtures("write")
def test_plain_variables_are_one_environment(tmp_path: Path) -> None:
    config = read_config({"DAGSTER_HOME": "/home", "ENVIRONMENT": "uat", "DAGFUSION_UAT_DAGSTER_URL": "https://ui"})
    (uat,) = config.environments
    assert (uat.name, uat.settings.event_log, uat.own.dagster_url) == ("uat", "/home", "https://ui")
    assert uat.settings.state_dir == str(tmp_path / ".dagfusion/service/uat")


def test_where_iceberg_metadata_goes(write: Write) -> None:
    write(TWO.replace('event_log = "homes/prod"', 'event_log = "homes/prod"\niceberg_metadata = "s3://acme/_iceberg/"'))
    told = {"UAT_KEY": "id", "DAGFUSION_PROD_ICEBERG_CREDENTIALS": "keys", "DAGFUSION_ICEBERG_METADATA": "s3://no/no"}
    uat, prod = read_config(told).environments
    assert (uat.own.iceberg_metadata, uat.own.iceberg_credentials) == (None, "none")
    assert (prod.own.iceberg_metadata, prod.own.iceberg_credentials) == ("s3://acme/_iceberg", "keys")
    (only,) = read_config({**told, "DAGFUSION_ICEBERG_METADATA": "file:///x"}, event_log="/h").environments
    assert (only.own.iceberg_metadata, only.own.iceberg_credentials) == ("file:///x", "none")


def test_secrets_show_nowhere(write: Write) -> None:
    write(TWO)
    shown = repr(read_config({"UAT_KEY": "hidden"}))
    assert not [secret for secret in ("hush", "whisper", "hidden") if secret in shown]


def test_the_state_folder_is_private(write: Write, tmp_path: Path) -> None:
    write(TWO)
    (tmp_path / "state").mkdir(mode=0o755)
    read_config({"UAT_KEY": "id"}).make_folders()
    assert {oct((tmp_path / "state" / name).stat().st_mode & 0o777) for name in (".", "uat", "prod")} == {"0o700"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[servce]\n", "has no table or key 'servce'; did you mean service?"),
        ("[service]\nworker = 2\n", r"\[service\] has no setting 'worker'; did you mean workers?"),
        ("[engine]\nfoo = 2\n", r"\[engine\] has no setting 'foo'; there are poll_interval_s"),
        ("[environments.uat]\nbucket = 'b'\n", r"\[environments.uat\] has no setting 'bucket'; did you mean s3_bucket"),
        ("[environments.uat]\nevent_log = {env = 'NOT_THERE'}\n", "variable NOT_THERE, which is not set"),
        ("[environments.uat]\nevent_log = {var = 'X'}\n", "must be a value or {env"),
        ("[environments.uat]\ns3_bucket = true\n", "must be text or a number, got a bool"),
        ("[environments.uat]\ns3_bucket = 'lake'\n", "environment uat has no event log: set DAGFUSION_UAT_EVENT_LOG"),
        (
            "[environments.uat]\nevent_log='/h'\naws_access_key_id='k'\n",
            "uat: aws_access_key_id and aws_secret_acc",
        ),
        ("[environments.uat]\nevent_log='/h'\ndagster_url='http://me:pw@ui'\n", "without a password"),
        ("[environments.uat]\nevent_log='/h'\niceberg_metadata='bucket/x'\n", "must be s3://bucket/folder or file:///"),
        ("[environments.uat]\nevent_log='/h'\niceberg_metadata='s3:///x'\n", "must be s3://bucket/folder or file:///"),
        ("[environments.uat]\nevent_log='/h'\niceberg_metadata='s3://b/a%20b'\n", "without [?], # and %"),
        (
            "[environments.uat]\nevent_log='/h'\niceberg_credentials='all'\n",
            "must be none, keys, or the ARN of an IAM role such as",
        ),
        ("[environments.UAT]\nevent_log='/h'\n", "must be a lower-case identifier such as uat or prod_eu, got 'UAT'"),
        ("[environments.a]\nevent_log='/h'\n[environments.a_b]\nevent_log='/h'\n", "a schema that begins with a_b_"),
        ("[service]\nworkers = 0\n", r"\[service\] workers must be a positive whole number"),
        ("[engine]\nparallelism = 'many'\n", r"\[engine\] parallelism must be a positive whole number"),
        ("service = 3\n", r"\[service\] must be a table, got a int"),
        ("environments = 3\n", "environments must be tables"),
        ("[service\n", "must be TOML, and is not"),
        ("", "there is no event log to serve"),
    ],
)
def test_what_cannot_be_is_refused(write: Write, text: str, complaint: str) -> None:
    write(text)
    with pytest.raises(SettingsError, match=complaint):
        read_config({})


def test_a_warm_up_leaves_room_for_what_queries_fetch(write: Write) -> None:
    environment = "[environments.uat]\nevent_log='/h'\n"
    write(f"[engine]\nobject_cache_bytes=2000\n{environment}")
    assert read_config({"DAGFUSION_WARM_UP_BYTES": "100"}).service.warm_up_bytes == 100
    with pytest.raises(
        SettingsError, match=r"must be at most 100, 5 % of DAGFUSION_OBJECT_CACHE_BYTES \(2000\), got 101"
    ):
        read_config({"DAGFUSION_WARM_UP_BYTES": "101"})
    write(f"[engine]\nobject_cache_dir='none'\nobject_cache_bytes=2000\n{environment}")
    assert read_config({"DAGFUSION_WARM_UP_BYTES": "101"}).service.warm_up_bytes == 101  # without effect


def test_a_file_that_is_named_must_be_there(write: Write, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no configuration file"):
        read_config({"DAGFUSION_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="not configured; there are uat, prod"):
        read_config({"UAT_KEY": "id"}, file=write(TWO), environment="dev")


@pytest.mark.parametrize("environments", [{}, {"DAGFUSION_ENVIRONMENTS": "uat", "DAGFUSION_UAT_EVENT_LOG": "/uat"}])
def test_the_keys_of_metadata_are_those_of_the_environment_else_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environments: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"DAGFUSION_EVENT_LOG": "/home", "ENVIRONMENT": "uat", **environments}
    (read,) = read_config(variables).environments
    assert listed(read.settings.metadata_keys) == ("dagster/uri", "uri", "path", "s3_path")
    (read,) = read_config({**variables, "DAGFUSION_METADATA_KEYS": "a, b"}).environments
    assert listed(read.settings.metadata_keys) == ("a", "b")
    own = {"DAGFUSION_METADATA_KEYS": "a, b", "DAGFUSION_UAT_METADATA_KEYS": "c"}
    (read,) = read_config({**variables, **own}).environments
    assert listed(read.settings.metadata_keys) == ("c",)


def test_no_keys_of_an_environment_are_those_of_all(write: Write) -> None:
    file = write(TWO.replace('metadata_keys = ["where", "path"]', 'metadata_keys = ""'))
    uat = read_config({"UAT_KEY": "id", "DAGFUSION_METADATA_KEYS": "a, b"}, file=file).environments[0]
    assert listed(uat.settings.metadata_keys) == ("a", "b")


def test_days_after_which_objects_are_archived(write: Write) -> None:
    write(TWO.replace('event_log = "homes/prod"', 'event_log = "homes/prod"\narchived_after_days = 90'))

    def days(**variables: str) -> list[int]:
        config = read_config({"UAT_KEY": "id", **variables})
        return [environment.settings.archived_after_days for environment in config.environments]

    assert days() == [0, 90]
    assert days(DAGFUSION_ARCHIVED_AFTER_DAYS="30") == [30, 90]
    assert days(DAGFUSION_ARCHIVED_AFTER_DAYS="30", DAGFUSION_UAT_ARCHIVED_AFTER_DAYS="0") == [0, 90]
    with pytest.raises(SettingsError, match="archived_after_days must be a whole number from 0 to 36500, got 'soon'"):
        days(DAGFUSION_UAT_ARCHIVED_AFTER_DAYS="soon")
    alone = {"DAGFUSION_EVENT_LOG": "/home", "DAGFUSION_ARCHIVED_AFTER_DAYS": "365"}
    assert Settings.read(alone).archived_after_days == 365


def test_where_the_checkpoint_goes(write: Write) -> None:
    write(
        TWO.replace('event_log = "homes/prod"', 'event_log = "homes/prod"\ncatalog_checkpoint = "s3://acme/_catalog"')
    )
    plain = {"DAGFUSION_CATALOG_CHECKPOINT": "s3://lake/_catalog"}
    uat, prod = read_config({"UAT_KEY": "id", **plain}).environments
    assert (uat.settings.catalog_checkpoint, prod.settings.catalog_checkpoint) == (None, "s3://acme/_catalog")
    (only,) = read_config({"UAT_KEY": "id", **plain}, event_log="/h").environments
    assert only.settings.catalog_checkpoint == "s3://lake/_catalog"
    assert Settings.read({**plain, "DAGFUSION_EVENT_LOG": "/h"}).catalog_checkpoint == "s3://lake/_catalog"


@pytest.mark.parametrize("environment", [None, "uat"])
def test_environments_do_not_share_a_checkpoint(write: Write, environment: str | None) -> None:
    file = write(
        TWO.replace('event_log = "homes/prod"', 'event_log = "homes/prod"\ncatalog_checkpoint = "s3://acme/_catalog/"')
    )
    own = {"UAT_KEY": "id", "DAGFUSION_UAT_CATALOG_CHECKPOINT": "s3://acme/_catalog"}
    with pytest.raises(SettingsError, match="environments uat and prod have one catalog_checkpoint"):
        read_config(own, file=file, environment=environment)
    other = {"DAGFUSION_PROD_CATALOG_CHECKPOINT": "s3://acme/_prod"}
    assert read_config(own | other, file=file, environment=environment).environments


@pytest.mark.parametrize("folder", ["bucket/x", "s3:///x", "s3://bucket", "s3://bucket/", "file:///x", "s3://b/a%20b"])
def test_a_checkpoint_is_in_a_folder_of_a_bucket(folder: str) -> None:
    with pytest.raises(SettingsError, match=r"DAGFUSION_CATALOG_CHECKPOINT must be s3://bucket/folder without"):
        Settings.read({"DAGFUSION_CATALOG_CHECKPOINT": folder})
    uat = {"DAGFUSION_ENVIRONMENTS": "uat", "DAGFUSION_UAT_EVENT_LOG": "/h"}
    with pytest.raises(SettingsError, match="environment uat: catalog_checkpoint must be s3://bucket/folder"):
        read_config({**uat, "DAGFUSION_UAT_CATALOG_CHECKPOINT": folder})


def test_plain_variables_set_the_keys_of_the_only_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {
        "DAGFUSION_EVENT_LOG": "/home",
        "DAGFUSION_ICEBERG_CONSOLIDATED": "*",
        "DAGFUSION_DAGSTER_URL": "http://d/",
    }
    (only,) = read_config({**variables, "DAGFUSION_LOCAL_DAGSTER_URL": "http://own"}).environments

    assert only.own == EnvironmentSettings(dagster_url="http://own", iceberg_consolidated=frozenset("*"))
