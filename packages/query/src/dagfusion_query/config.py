"""The configuration of `dagfusion serve`: the settings of the service, and its environments.

Arguments override variables, these override `dagfusion.toml`, and that overrides the local stack's `stack.env`. If no
environments are configured, there is one: that of the plain variables, as for `connect`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

from dagfusion_client.errors import SettingsError
from dagfusion_client.secrets_manager import reference_in
from dagfusion_client.settings import READER
from dagfusion_contract.environments import default_region
from dagfusion_contract.secret_reference import SecretReference
from dagfusion_contract.setting_declarations import declaration, declared
from dagfusion_query.config_file import Document, read_document
from dagfusion_query.service_settings import ConfigSettings, EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import NO_STATE, Settings, check_environment_name, listed

_PRIVATE = 0o700
_WARM_UP_PERCENT = 5  # of the local copies within an hour; new copies have a tenth of the space, see `eviction`
# A key's parts belong together: where one source gives a key, no other completes it.
_AWS_KEY = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_AWS = ("aws_region", "aws_endpoint_url")
_SOURCE = ("event_log", *_AWS, *_AWS_KEY)  # keys with rules of their own


@dataclass(frozen=True)
class EnvironmentConfig:
    """One environment: where its events and objects are.

    Attributes:
        name: The first word of its schemas.
        settings: Its event log, region, endpoint and keys, and the folder of its snapshots.
        own: What else is set of it.
    """

    name: str
    settings: Settings
    own: EnvironmentSettings = field(default_factory=EnvironmentSettings)


@dataclass(frozen=True)
class Config:
    """The configuration of a service.

    Attributes:
        environments: At least one.
        state_dir: Holds `<environment>/` with the snapshots of each, and the access tokens.
    """

    service: ServiceSettings
    environments: tuple[EnvironmentConfig, ...]
    state_dir: Path

    @property
    def tokens_file(self) -> Path | SecretReference:
        """The file of access tokens, or the secret that has its text."""
        return _tokens_file(self.service, self.state_dir)

    def make_folders(self) -> None:
        """Make the state folder and those of the environments, for the owner only.

        Raises:
            SettingsError: One cannot be made.
        """
        for folder in (self.state_dir, *(self.state_dir / environment.name for environment in self.environments)):
            try:
                folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                folder.chmod(_PRIVATE)
            except OSError as error:
                raise SettingsError(
                    f"the state folder {folder} cannot be made ({error.strerror}): set DAGFUSION_STATE_DIR to a folder "
                    "that may be written"
                ) from error


def read_config(
    variables: Mapping[str, str],
    *,
    file: Path | None = None,
    event_log: str | None = None,
    environment: str | None = None,
) -> Config:
    """Read the configuration.

    Args:
        variables: The process's environment. `DAGFUSION_ENVIRONMENTS=uat,prod` and `DAGFUSION_UAT_EVENT_LOG`,
            `DAGFUSION_UAT_AWS_REGION`, ... say what the file's tables `[environments.uat]`, ... say.
        file: The configuration file; else `DAGFUSION_CONFIG`, else `./dagfusion.toml` if there is one.
        event_log: The event log of the only environment, whatever else is configured.
        environment: The only environment to serve.

    Raises:
        SettingsError: Something is missing, unknown, or has a value that it cannot have.
    """
    variables = {name: value for name, value in variables.items() if value != ""}
    document = read_document(variables, file)
    service = ServiceSettings.read(variables, document.service)
    state_dir = _state_dir(variables, document)
    engine = READER.read_values(
        [*declared(Settings, "engine"), *(declaration(Settings, name) for name in _like(Settings, inherits=True))],
        variables,
        document.engine,
    )
    names = _names(variables, document, event_log, environment)
    if names:
        environments = [_environment(name, variables, document, event_log, engine) for name in names]
    else:
        environments = [_from_variables(variables, document, event_log, environment, engine)]
    _check_checkpoints(environments, variables, document)
    placed = [replace(e, settings=_placed(e.settings, state_dir, e.name)) for e in environments]
    _check_warm_up(service, placed)
    return Config(service, tuple(placed), state_dir)


def _placed(settings: Settings, state_dir: Path, environment: str) -> Settings:
    """Set an environment's folder, and the folders of local copies and of results that all of them share."""
    return replace(
        settings,
        state_dir=str(state_dir / environment),
        environment=environment,
        object_cache_dir=settings.object_cache_dir or str(state_dir / "objects"),
        result_cache_dir=settings.result_cache_dir or str(state_dir / "results"),
    )


def read_tokens_file(variables: Mapping[str, str], *, file: Path | None = None) -> Path | SecretReference:
    """Read where the access tokens are kept; nothing need be known of environments for that.

    Raises:
        SettingsError: As `read_config`.
    """
    variables = {name: value for name, value in variables.items() if value != ""}
    document = read_document(variables, file)
    service = ServiceSettings.read(variables, document.service)
    return _tokens_file(service, _state_dir(variables, document))


def _tokens_file(service: ServiceSettings, state_dir: Path) -> Path | SecretReference:
    if (reference := reference_in(service.tokens or "")) is not None:
        return reference
    return state_dir / "tokens.json" if service.tokens is None else Path(service.tokens).expanduser()


def _state_dir(variables: Mapping[str, str], document: Document) -> Path:
    settings = [declaration(Settings, "home"), declaration(Settings, "state_dir")]
    folder = Settings(**READER.read_values(settings, variables, document.service)).state_folder(of_service=True)
    if folder is None:
        raise SettingsError("DAGFUSION_STATE_DIR must be a folder for the service: its workers read the catalog there")
    return folder.absolute()


def _names(
    variables: Mapping[str, str], document: Document, event_log: str | None, environment: str | None
) -> list[str]:
    """Return the names of the environments to serve; none when only the plain variables speak of one."""
    names = [*(listed(ConfigSettings.read(variables).environments or "") or document.environments)]
    for name in names + ([environment] if environment else []):
        check_environment_name(name)
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"DAGFUSION_ENVIRONMENTS names {', '.join(sorted(twice))} twice")
    for one, other in permutations(names, 2):
        if other.startswith(f"{one}_"):
            raise SettingsError(
                f"environments {one} and {other} cannot be served together: a schema that begins with {other}_ could "
                "belong to either; rename one of them"
            )
    if event_log is not None:
        return [environment] if environment is not None and environment in names else []
    if environment is None or not names:
        return names
    if environment not in names:
        raise SettingsError(f"environment {environment!r} is not configured; there are {', '.join(names)}")
    return [environment]


def _environment(
    name: str, variables: Mapping[str, str], document: Document, event_log: str | None, engine: Mapping[str, Any]
) -> EnvironmentConfig:
    own, of_file = _own(name, variables), document.environments.get(name, {})
    found = {key: value for key, value in of_file.items() if key not in _AWS_KEY} | own
    found |= {key: variables[key.upper()] for key in _AWS if key.upper() in variables and key not in found}
    of_process = {key: variables[key.upper()] for key in _AWS_KEY if key.upper() in variables}
    source = next((s for s in (own, of_file, of_process) if any(key in s for key in _AWS_KEY)), {})
    found |= {key: source[key] for key in _AWS_KEY if key in source}
    of_name = EnvironmentSettings.read(name, found | ({} if event_log is None else {"event_log": event_log}))
    if of_name.event_log is None:
        raise SettingsError(
            f"environment {name} has no event log: set {_variable(name, 'event_log')}, or event_log under "
            f"[environments.{name}] of dagfusion.toml, to a postgresql:// URL or a DAGSTER_HOME folder"
        )
    settings = Settings(
        event_log=of_name.event_log,
        environment=name,
        endpoint_url=of_name.aws_endpoint_url,
        region=of_name.aws_region or default_region(name),
        access_key_id=of_name.aws_access_key_id,
        secret_access_key=of_name.aws_secret_access_key,
        session_token=of_name.aws_session_token,
        **engine,
    )
    return EnvironmentConfig(name, _with_own(settings, of_name), of_name)


def _like(kind: type, *, inherits: bool | None = None) -> dict[str, str]:
    """Return the keys of an environment that mean the same as settings of a class, by the names of these settings."""
    keys = [key for key in declared(EnvironmentSettings) if inherits in (None, key.metadata["inherits"])]
    likes = {key.name: key.metadata["like"] for key in keys}
    return {like[1]: key for key, like in likes.items() if like is not None and like[0] is kind}


def _variable(environment: str, key: str) -> str:
    return str(declaration(EnvironmentSettings, key).metadata["variable"]).format(NAME=environment.upper())


def _own(environment: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return what variables say of one environment, by key."""
    variable_of = {field.name: _variable(environment, field.name) for field in declared(EnvironmentSettings)}
    return {key: variables[variable] for key, variable in variable_of.items() if variable in variables}


def _from_variables(
    variables: Mapping[str, str],
    document: Document,
    event_log: str | None,
    environment: str | None,
    engine: Mapping[str, Any],
) -> EnvironmentConfig:
    """Return the one environment of the plain variables, or of the local stack."""
    settings = replace(Settings.read(variables, event_log=event_log, environment=environment), **engine)
    if not settings.event_log:
        raise SettingsError(
            f"there is no event log to serve: start the local stack with `dagfusion up -d` (none was found in "
            f"{settings.home}), name one with --dagster-home or DAGFUSION_EVENT_LOG, or describe environments in "
            "dagfusion.toml"
        )
    name = settings.environment
    own = _own(name, variables)
    for of_all, key in _like(ConfigSettings).items():
        if value := variables.get(declaration(ConfigSettings, of_all).metadata["variable"]):
            own.setdefault(key, value)
    of_name = EnvironmentSettings.read(name, {**document.environments.get(name, {}), **own})
    return EnvironmentConfig(name, _with_own(settings, of_name), of_name)


def _with_own(settings: Settings, own: EnvironmentSettings) -> Settings:
    """Return settings with the values that one environment has otherwise; an empty text inherits, too."""
    values = {of_all: getattr(own, key) for of_all, key in _like(Settings).items() if key not in _SOURCE}
    unset = {name: (None, "") if name in _like(Settings, inherits=True) else (None,) for name in values}
    return replace(settings, **{name: value for name, value in values.items() if value not in unset[name]})


def _check_warm_up(service: ServiceSettings, environments: Sequence[EnvironmentConfig]) -> None:
    """Refuse a warm-up that would take so much of the local copies that these evict each other."""
    for settings in (environment.settings for environment in environments):
        limit_bytes = settings.object_cache_bytes * _WARM_UP_PERCENT // 100
        if settings.object_cache_dir != NO_STATE and service.warm_up_bytes > limit_bytes:
            raise SettingsError(
                f"DAGFUSION_WARM_UP_BYTES must be at most {limit_bytes}, {_WARM_UP_PERCENT} % of "
                f"DAGFUSION_OBJECT_CACHE_BYTES ({settings.object_cache_bytes}), got {service.warm_up_bytes}: more "
                "would evict copies before queries use them. Lower it, or raise DAGFUSION_OBJECT_CACHE_BYTES"
            )


def _check_checkpoints(
    environments: Sequence[EnvironmentConfig], variables: Mapping[str, str], document: Document
) -> None:
    """Refuse one folder for the checkpoints of two environments, of which another process may serve one."""
    configured = {name: {**values, **_own(name, variables)} for name, values in document.environments.items()}
    folders = {name: values.get("catalog_checkpoint") for name, values in configured.items()}
    folders |= {environment.name: environment.settings.catalog_checkpoint for environment in environments}
    for (one, folder), (other, same) in combinations(folders.items(), 2):
        if folder is not None and same is not None and folder.rstrip("/") == same.rstrip("/"):
            raise SettingsError(
                f"environments {one} and {other} have one catalog_checkpoint, {folder}: each needs a folder of its own"
            )
