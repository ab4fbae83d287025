"""Settings of the stack: read once from a mapping into a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from dagfusion_contract.environments import DEFAULTS, LOCAL, StoreSettings, is_bucket
from dagfusion_contract.local_stack import HOME
from dagfusion_contract.setting_declarations import SettingReader, as_variables, declared, setting, setting_like
from dagfusion_stack.errors import SettingError
from dagfusion_stack.ports import HIGHEST

_READER = SettingReader(SettingError)
_PORTS = range(1, HIGHEST + 1)
_PORTS_OR_ANY = range(HIGHEST + 1)


@dataclass(frozen=True)
class Settings:
    """All settings of the stack; `Settings.read` makes them from variables."""

    home: Path = setting(  # noqa: RUF009  # it makes a field
        "DAGFUSION_HOME", Path(HOME), "The folder that holds all state of the stack."
    )
    dagster_port: int = setting("DAGFUSION_DAGSTER_PORT", 3000, "The port of Dagster's web interface.", numbers=_PORTS)
    s3_port: int = setting(
        "DAGFUSION_S3_PORT",
        0,
        "The port of the S3 server; 0 keeps the last one, or chooses a free one.",
        numbers=_PORTS_OR_ANY,
    )
    http_port: int = setting("DAGFUSION_HTTP_PORT", 8080, "The port of the query service and console.", numbers=_PORTS)
    flight_port: int = setting("DAGFUSION_FLIGHT_PORT", 8081, "The port of Arrow Flight SQL.", numbers=_PORTS)
    bucket: str = setting_like(
        StoreSettings,
        "bucket",
        DEFAULTS[LOCAL].bucket,
        accepts=partial(is_bucket, is_aws=True),
        help_text="The bucket that the assets are written to. If it is not set, a state folder keeps its last one.",
    )

    @classmethod
    def read(cls, variables: Mapping[str, str], **arguments: object) -> Self:
        """Make settings from variables; `arguments` that are not None win over them. The home becomes absolute.

        Raises:
            SettingError: A variable has a value that it cannot have.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        settings = cls(**{**_READER.read_values(declared(cls), variables), **given})
        return replace(settings, home=Path(settings.home).expanduser().resolve())

    def environ(self) -> dict[str, str]:
        """Return the variables from which `read` makes these settings."""
        return as_variables(type(self), vars(self))
