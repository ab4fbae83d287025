"""The configuration file `dagfusion.toml`. It is read strictly: an unknown key is an error."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dagfusion_client.errors import SettingsError
from dagfusion_contract.secret_reference import is_reference
from dagfusion_contract.setting_declarations import declared, names
from dagfusion_query.service_settings import ConfigSettings, EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import ENGINE_SETTINGS, NO_STATE, Settings

CONFIG_FILE = "dagfusion.toml"
# The keys of an environment. As variables they are DAGFUSION_<NAME>_<KEY>, in upper case.
ENVIRONMENT_KEYS = names(EnvironmentSettings)
_OF_SERVICE = (*declared(ServiceSettings), *declared(Settings, "service"))
SERVICE_KEYS = tuple(field.name for field in _OF_SERVICE)
PATHS = tuple(field.name for field in (*_OF_SERVICE, *declared(Settings, "engine")) if field.metadata["is_path"])
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Document:
    """The file's tables, checked; relative paths are relative to the file's folder.

    Attributes:
        service: `[service]`, by field of `ServiceSettings`, or of `Settings`.
        engine: `[engine]`, by field of `Settings`.
        environments: `[environments.<name>]`, by key.
    """

    service: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    engine: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _EMPTY, repr=False)


def read_document(variables: Mapping[str, str], file: Path | None) -> Document:
    """Read the configuration file, or return an empty one when none is named and there is none.

    Raises:
        SettingsError: The file was named and does not exist, cannot be read, or has an unknown key.
    """
    configured = ConfigSettings.read(variables).config
    configured_file = file or (Path(configured) if configured else None)
    path = configured_file or Path(CONFIG_FILE)
    try:
        parsed = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if configured_file is None:
            return Document()
        raise SettingsError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} must be TOML, and is not: {error}") from None
    return _Reader(path, variables).document(parsed)


class _Reader:
    """Checks a parsed file; every message names the file and the key."""

    def __init__(self, path: Path, variables: Mapping[str, str]) -> None:
        self._path, self._variables = path, variables
        self._folder = path.absolute().parent

    def document(self, parsed: Mapping[str, Any]) -> Document:
        self._check(parsed, ("service", "engine", "environments"), "has no table or key")
        service = self._with_paths(self._table(parsed, "service", SERVICE_KEYS))
        engine = self._with_paths(self._table(parsed, "engine", ENGINE_SETTINGS))
        environments = parsed.get("environments", {})
        if not isinstance(environments, dict):
            raise SettingsError(f"{self._path}: environments must be tables such as [environments.uat]")
        read = {name: self._environment(environments, name) for name in environments}
        return Document(service, engine, read)

    def _environment(self, environments: Mapping[str, Any], name: str) -> Mapping[str, str]:
        table = self._table(environments, name, ENVIRONMENT_KEYS, f"environments.{name}")
        if "event_log" in table and "://" not in table["event_log"]:
            table["event_log"] = self._absolute(table["event_log"])
        return table

    def _table(
        self, parent: Mapping[str, Any], name: str, allowed: Collection[str], spelt: str | None = None
    ) -> dict[str, Any]:
        where = f"[{spelt or name}]"
        table = parent.get(name, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{self._path}: {where} must be a table, got a {type(table).__name__}")
        self._check(table, allowed, f"{where} has no setting")
        return {key: self._value(f"{where} {key}", value) for key, value in table.items()}

    def _value(self, where: str, value: Any) -> Any:
        """Return a literal, the variable that `{env = "NAME"}` names, or a list's items joined by commas."""
        if isinstance(value, dict):
            if list(value) != ["env"] or not isinstance(value["env"], str):
                raise SettingsError(f'{self._path}: {where} must be a value or {{env = "VARIABLE"}}')
            if not self._variables.get(value["env"]):
                raise SettingsError(
                    f"{self._path}: {where} is taken from the environment variable {value['env']}, which is not set"
                )
            return self._variables[value["env"]]
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and where.endswith("_keys"):
            return ",".join(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SettingsError(f"{self._path}: {where} must be text or a number, got a {type(value).__name__}")
        if isinstance(value, str) and not value.strip() and not where.endswith("_keys"):  # no keys are those of all
            raise SettingsError(
                f"{self._path}: {where} must not be empty, got {value!r}: give a value, or leave the setting out for "
                "its default"
            )
        return str(value) if where.startswith("[environments.") else value

    def _check(self, keys: Collection[str], allowed: Collection[str], complaint: str) -> None:
        for key in keys:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"
                raise SettingsError(f"{self._path}: {complaint} {key!r}; {hint}")

    def _with_paths(self, table: dict[str, Any]) -> dict[str, Any]:
        """Make the relative paths of a table absolute. `none` and references to secrets are no paths."""
        paths = {key: str(value) for key, value in table.items() if key in PATHS}
        return table | {
            key: self._absolute(path) for key, path in paths.items() if path != NO_STATE and not is_reference(path)
        }

    def _absolute(self, path: str) -> str:
        return str(self._folder / Path(path).expanduser())
