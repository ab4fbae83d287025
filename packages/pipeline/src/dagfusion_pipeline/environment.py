"""The settings of the pipeline's store: `ENVIRONMENT=local|uat|prod` and others, read once into a frozen value."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dagfusion_contract.environments import (
    BUCKET,
    DEFAULTS,
    LOCAL,
    PREFIX,
    StoreSettings,
    check_store,
    is_prefix,
    is_server,
)
from dagfusion_contract.setting_declarations import (
    REQUIRED,
    SettingReader,
    declaration,
    declared,
    setting,
    setting_like,
)
from dagfusion_pipeline.errors import ConfigurationError

READER = SettingReader(ConfigurationError)
KEY = "{key}"  # where `object_url` has the object's key


@dataclass(frozen=True)
class Credentials:
    """An AWS access key, which its representation does not show."""

    access_key_id: str = setting_like(StoreSettings, "access_key_id", REQUIRED)
    secret_access_key: str = setting_like(StoreSettings, "secret_access_key", REQUIRED)
    session_token: str | None = setting_like(StoreSettings, "session_token")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


SECRET_VARIABLES: Mapping[str, str] = {each.name: each.metadata["variable"] for each in declared(Credentials)}


@dataclass(frozen=True)
class Environment:
    """The location of one environment's objects, and the access to the store.

    Without `credentials`, AWS's default chain applies (environment, profile, IAM role).
    Without `endpoint_url`, AWS's own endpoint of the region applies.
    Events link to `console_url`, the query service's console, and to `object_url`, which has `{bucket}` and `{key}`.
    """

    name: str = setting_like(StoreSettings, "environment", REQUIRED)
    bucket: str = setting_like(StoreSettings, "bucket", REQUIRED)
    region: str = setting_like(StoreSettings, "region", REQUIRED)
    prefix: str = setting(
        "S3_PREFIX",
        PREFIX,
        "The prefix of every object key.",
        accepts=is_prefix,
        requirement="folder names joined by slashes",
    )
    endpoint_url: str | None = setting_like(StoreSettings, "endpoint_url")
    credentials: Credentials | None = None
    console_url: str | None = setting(
        "DAGFUSION_CONSOLE_URL",
        None,
        "The query service's console, which events link to. The local stack sets its own.",
        accepts=is_server,
        requirement="a URL such as http://localhost:8080, without a user or password",
    )
    object_url: str | None = setting(
        "DAGFUSION_OBJECT_URL",
        None,
        "The target of the link `s3_path` on events, with `{bucket}` and `{key}`. It has no signature.",
        shown="AWS's console, or the endpoint",
        accepts=lambda url: KEY in url,
        requirement=f"a URL with {KEY} in it",
    )

    maintenance_tags: str | None = setting(
        "DAGFUSION_MAINTENANCE_TAGS",
        None,
        "Tags of the reference code location's maintenance jobs and their runs, such as the role of a run.",
        accepts=_is_object,
        requirement='a JSON object of tags such as {"team": "data"}',
    )

    @classmethod
    def read(cls, settings: Mapping[str, str]) -> Self:
        """Return the environment that the settings describe; an empty value counts as not set.

        Raises:
            ConfigurationError: A variable is missing or its value is not usable; one line, without any secret.
        """
        values = READER.read_values([each for each in declared(cls) if each.name != "bucket"], settings)
        name = values.setdefault("name", LOCAL)
        variable, values["bucket"] = _bucket(settings, name)
        by_variable = {**settings, BUCKET: values["bucket"]}
        check_store(READER, by_variable, name=lambda checked: variable if checked == BUCKET else checked)
        values.setdefault("region", DEFAULTS[name].region)
        if "endpoint_url" in values:
            values["endpoint_url"] = values["endpoint_url"].rstrip("/")
        keys = READER.read_values(declared(Credentials), settings)
        return cls(**values, credentials=Credentials(**keys) if keys else None)

    @classmethod
    def from_process(cls) -> Self:
        """Return the environment of this process."""
        return cls.read(os.environ)

    def io_manager_fields(self) -> dict[str, Any]:
        """Return the fields of both IO managers: keyword to value, secrets included."""
        keys = self.credentials
        fields = {
            "environment": self.name,
            "bucket": self.bucket,
            "prefix": self.prefix,
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "access_key_id": keys.access_key_id if keys else None,
            "secret_access_key": keys.secret_access_key if keys else None,
            "session_token": keys.session_token if keys else None,
            "console_url": self.console_url,
            "object_url": self.object_url,
        }
        return {name: value for name, value in fields.items() if value is not None}


def _bucket(settings: Mapping[str, str], environment: str) -> tuple[str, str]:
    """Return the variable of an environment's bucket, and the bucket."""
    defaults = DEFAULTS[environment]
    variable = defaults.bucket_variable
    bucket = settings.get(variable) or defaults.bucket
    if bucket is None:
        raise ConfigurationError(
            f"{variable} is required when ENVIRONMENT={environment}: set it to the name of the bucket; it is not set",
        )
    return variable, str(READER.checked(declaration(Environment, "bucket"), variable, bucket))
