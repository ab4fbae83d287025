"""The table of settings: all that is declared is said by a variable or in the file, and is checked alike in both."""

from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from dagfusion_cli.service_commands import serve
from dagfusion_client.errors import SettingsError
from dagfusion_client.settings import READER, ClientSettings
from dagfusion_contract.setting_declarations import declaration, declared, names, setting
from dagfusion_query.config import read_config
from dagfusion_query.service_settings import ConfigSettings, EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import ENGINE_SETTINGS, Settings

TABLES = [("service", ServiceSettings), ("service", Settings), ("engine", Settings)]
IN_FILES = [(section, known) for section, kind in TABLES for known in declared(kind, section)]
NUMBERS = [
    (section, known)
    for section, known in IN_FILES
    if isinstance(known.default, int | float) and known.metadata["numbers"] is None
]
SAID = {
    "sts_endpoint_url": "https://sts",
    "dagster_url": "https://dagster",
    "iceberg_metadata": "s3://lake/_iceberg",
    "iceberg_credentials": "keys",
    "spark_remote": "sc://spark:15002",
}
LISTS = {"iceberg_origins": "https://app.example.com"}
PAIRS = {"tls_certificate": "tls_key", "tls_key": "tls_certificate"}


def ids(value: object) -> str:
    return str(getattr(value, "name", value))


def said(known: "Field[Any]") -> Any:
    """Return a value that a setting can have, and does not have by itself; of a list, its only item."""
    if known.name in SAID | LISTS:
        return (SAID | LISTS)[known.name]
    if known.metadata["choices"]:
        return str(known.metadata["choices"][-1])
    return f"/{known.name}" if isinstance(known.default, str | None) else 7.0 if isinstance(known.default, float) else 7


def read(section: str, name: str, variables: dict[str, str] | None = None) -> Any:
    config = read_config({"DAGFUSION_EVENT_LOG": "/home", **(variables or {})})
    if name == "state_dir":
        return str(config.state_dir)
    value = getattr(config.service if section == "service" else config.environments[0].settings, name)
    return next(iter(value)) if name in LISTS else value


@pytest.mark.parametrize(("section", "known"), IN_FILES, ids=ids)
def test_a_setting_is_said_by_a_variable_or_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, known: "Field[Any]"
) -> None:
    monkeypatch.chdir(tmp_path)
    value, variable = said(known), known.metadata["variable"]
    other = {key: value for key in [PAIRS.get(known.name)] if key}
    variables = {variable: str(value), **{f"DAGFUSION_{name.upper()}": str(value) for name in other}}

    assert read(section, known.name, variables) == value

    lines = [f"{name} = {value!r}" for name in (known.name, *other)]
    (tmp_path / "dagfusion.toml").write_text("\n".join([f"[{section}]", *lines]))
    assert read(section, known.name) == value
    if isinstance(value, int | float):
        assert read(section, known.name, {variable: "9"}) == 9, "variables come before the file"


@pytest.mark.parametrize(("section", "known"), NUMBERS, ids=ids)
@pytest.mark.parametrize("value", ["0", "-1", "many", "nan"])
def test_a_number_is_checked_wherever_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, known: "Field[Any]", value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"^{known.metadata['variable']} must be a positive"):
        read(section, known.name, {known.metadata["variable"]: value})

    (tmp_path / "dagfusion.toml").write_text(f"[{section}]\n{known.name} = {value!r}\n")
    with pytest.raises(SettingsError, match=rf"^\[{section}\] {known.name} must be a positive"):
        read(section, known.name)


def test_a_history_may_be_none_and_has_an_end() -> None:
    assert ServiceSettings.read({"DAGFUSION_HISTORY_QUERIES": "0"}).history_queries == 0
    for value in ("-1", "10000001", "2.5"):
        with pytest.raises(SettingsError, match="DAGFUSION_HISTORY_QUERIES must be a whole number from 0 to 10000000"):
            ServiceSettings.read({"DAGFUSION_HISTORY_QUERIES": value})


@pytest.mark.parametrize(("section", "name"), [("service", "workers"), ("engine", "parallelism")])
def test_a_whole_number_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagfusion.toml").write_text(f"[{section}]\n{name} = 2.5\n")

    with pytest.raises(SettingsError, match=r"must be a positive whole number, got 2\.5"):
        read(section, name)


def test_a_choice_is_checked_wherever_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^DAGFUSION_ANONYMOUS must be one of auto, loopback, never, always"):
        read("service", "anonymous", {"DAGFUSION_ANONYMOUS": "all"})
    with pytest.raises(SettingsError, match=r"^ENVIRONMENT must be one of local, uat, prod"):
        read("", "environment", {"ENVIRONMENT": "test"})
    (tmp_path / "dagfusion.toml").write_text("[service]\nanonymous = 'all'\n")
    with pytest.raises(SettingsError, match=r"^\[service\] anonymous must be one of"):
        read("service", "anonymous")


def test_the_refusal_of_a_secret_does_not_have_it() -> None:
    kinds = (ServiceSettings, Settings, ClientSettings)
    fields = [one for kind in kinds for one in declared(kind) if not one.repr and one.metadata["accepts"]]
    assert [one.name for one in fields] == ["spark_remote"]
    for field in fields:
        with pytest.raises(SettingsError, match=f"^{field.metadata['variable']} must be ") as refused:
            read(field.metadata["section"], field.name, {field.metadata["variable"]: "http://host/;token=hidden"})
        assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("kind", [ClientSettings, ConfigSettings])
def test_what_only_variables_say_is_read(kind: Any) -> None:
    values = {field.name: SAID.get(field.name, field.name) for field in declared(kind)}
    variables = {field.metadata["variable"]: values[field.name] for field in declared(kind)}
    made = {field.name: field.metadata["read"] or str for field in declared(kind)}

    assert vars(kind.read(variables)) == {name: made[name](value) for name, value in values.items()}
    assert kind.read(dict.fromkeys(variables, "")) == kind.read({}) == kind()


def test_the_token_of_a_client_is_not_shown() -> None:
    assert "dft_" not in repr(ClientSettings.read({"DAGFUSION_TOKEN": "dft_secret"}))


@dataclass(frozen=True)
class Ports:
    port: int = setting("PORT", 80, "A port.", numbers=range(65_536))


@given(text=st.integers(-70_000, 70_000).map(str) | st.text(st.characters(exclude_categories=["Nd"]), min_size=1))
def test_a_range_of_numbers_is_checked(text: str) -> None:
    allowed = text.removeprefix("-").isdecimal() and 0 <= int(text) <= 65_535
    if allowed:
        assert READER.read_values(declared(Ports), {"PORT": text}) == {"port": int(text)}
    else:
        with pytest.raises(SettingsError, match=r"^PORT must be a whole number from 0 to 65535"):
            READER.read_values(declared(Ports), {"PORT": text})


@pytest.mark.parametrize("kind", [Settings, ServiceSettings, ClientSettings, ConfigSettings, EnvironmentSettings])
def test_a_variable_is_one_setting_and_means_something(kind: type) -> None:
    variables = [known.metadata["variable"] for known in declared(kind)]

    assert len({*variables}) == len(variables) > 1
    assert all(known.metadata["help"].endswith(".") for known in declared(kind))


@pytest.mark.parametrize("name", names(EnvironmentSettings))
def test_a_setting_of_one_environment_means_what_that_of_all_means(name: str) -> None:
    field = declaration(EnvironmentSettings, name)
    same = [
        other
        for kind in (Settings, ConfigSettings)
        for other in declared(kind)
        if field.metadata["help"] == other.metadata["help"]
    ]

    assert field.metadata["variable"] == f"DAGFUSION_{{NAME}}_{name.upper()}"
    assert len(same) == (name != "s3_bucket")
    assert all((other.repr, other.metadata["accepts"]) == (field.repr, field.metadata["accepts"]) for other in same)


def test_options_are_settings_with_their_meaning() -> None:
    app = typer.Typer()
    app.command()(serve)
    options: dict[str, Any] = {str(option.name): option for option in get_command(app).params}

    for name in ("http_address", "flight_address", "workers"):
        assert options[name].help == declaration(ServiceSettings, name).metadata["help"]
    assert options["config"].help == "The configuration file. Default: DAGFUSION_CONFIG, then ./dagfusion.toml."
    assert options["event_log"].help.endswith(" folder. Default: DAGFUSION_EVENT_LOG, then DAGSTER_HOME.")


def test_the_engines_settings_are_a_part_of_all() -> None:
    assert {*ENGINE_SETTINGS} < {*names(Settings)}


@pytest.mark.parametrize(
    ("variables", "embedded", "service"),
    [
        ({"HOME": "/ada"}, "/ada/.cache/dagfusion", ".dagfusion/service"),
        ({"DAGFUSION_HOME": "/stack"}, None, "/stack/service"),
        ({"DAGFUSION_STATE_DIR": "/state", "HOME": "/ada"}, "/state", "/state"),
        ({"DAGFUSION_STATE_DIR": "none", "HOME": "/ada"}, None, None),
    ],
)
def test_one_rule_places_the_state(variables: dict[str, str], embedded: str | None, service: str | None) -> None:
    settings = Settings.read(variables)
    folders = [settings.state_folder(), settings.state_folder(of_service=True)]
    assert folders == [None if folder is None else Path(folder) for folder in (embedded, service)]
