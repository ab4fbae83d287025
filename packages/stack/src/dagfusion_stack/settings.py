"""Settings of the stack: read once from a mapping into a frozen value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from dagfusion_stack.errors import SettingError
from dagfusion_stack.ports import HIGHEST

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class Settings:
    """Everything the stack can be told; `Settings.read` makes one from variables."""

    home: Path = field(
        default=Path(".dagfusion"),
        metadata={"variable": "DAGFUSION_HOME", "help": "The folder that holds all state of the stack."},
    )
    dagster_port: int = field(
        default=3000,
        metadata={"variable": "DAGFUSION_DAGSTER_PORT", "lowest": 1, "help": "The port of Dagster's web interface."},
    )
    s3_port: int = field(
        default=0,
        metadata={
            "variable": "DAGFUSION_S3_PORT",
            "lowest": 0,
            "help": "The port of the S3 server; 0 keeps the last one, or chooses a free one.",
        },
    )
    http_port: int = field(
        default=8080,
        metadata={"variable": "DAGFUSION_HTTP_PORT", "lowest": 1, "help": "The port of the query service and console."},
    )
    flight_port: int = field(
        default=8081,
        metadata={"variable": "DAGFUSION_FLIGHT_PORT", "lowest": 1, "help": "The port of Arrow Flight SQL."},
    )
    bucket: str = field(
        default="dagster-parquet-data",
        metadata={
            "variable": "S3_BUCKET",
            "help": "The bucket that the assets are written to. If it is not set, a state folder keeps its last one.",
        },
    )

    @classmethod
    def read(cls, variables: Mapping[str, str], **given: object) -> Self:
        """Make settings from variables; `given` values that are not None win over them. The home becomes absolute.

        Raises:
            SettingError: a variable has a value that it cannot have.
        """
        found = {setting.name: _parse(setting.metadata, setting.default, variables) for setting in fields(cls)}
        found |= {name: value for name, value in given.items() if value is not None}
        settings = cls(**found)
        if not BUCKET_NAME.fullmatch(settings.bucket):
            raise SettingError(
                "S3_BUCKET must be a bucket name (3 to 63 lower-case letters, digits, dots and hyphens), "
                f"got {settings.bucket!r}"
            )
        return replace(settings, home=Path(settings.home).expanduser().resolve())

    def environ(self) -> dict[str, str]:
        """Give the variables that `read` would make these settings of."""
        return {setting.metadata["variable"]: str(getattr(self, setting.name)) for setting in fields(self)}


def _parse(about: Mapping[str, Any], default: Any, variables: Mapping[str, str]) -> Any:
    variable = about["variable"]
    text = variables.get(variable, "")
    if not text:
        return default
    if isinstance(default, int) and not (text.isdecimal() and about["lowest"] <= int(text) <= HIGHEST):
        raise SettingError(f"{variable} must be a port from {about['lowest']} to {HIGHEST}, got {text!r}")
    return type(default)(text)
