"""The settings of the pipeline's store: `ENVIRONMENT=local|uat|prod` and others, read once into a frozen value."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from dagfusion_contract.setting_declarations import REQUIRED, setting
from dagfusion_pipeline.errors import ConfigurationError

_DEFAULT_PREFIX = "datafusion_test"
_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_REGION_NAME = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d{1,2}")
_PREFIX_NAME = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*")
_LONGEST_ECHO = 80


@dataclass(frozen=True)
class _Defaults:
    bucket_variable: str
    bucket: str | None
    region: str


_ENVIRONMENTS: Mapping[str, _Defaults] = {
    "local": _Defaults("S3_BUCKET", "dagster-parquet-data", "us-east-1"),
    "uat": _Defaults("UAT_S3_BUCKET", None, "us-east-2"),
    "prod": _Defaults("PROD_S3_BUCKET", None, "us-east-2"),
}


@dataclass(frozen=True)
class Credentials:
    """An AWS access key, which its representation does not show."""

    access_key_id: str = setting(
        "AWS_ACCESS_KEY_ID",
        REQUIRED,
        "The S3 access key. Not set: AWS's default credential chain.",
        shown="AWS's default chain",
        is_secret=True,
    )
    secret_access_key: str = setting(
        "AWS_SECRET_ACCESS_KEY",
        REQUIRED,
        "The secret of the access key. Set both or neither.",
        shown="AWS's default chain",
        is_secret=True,
    )
    session_token: str | None = setting(
        "AWS_SESSION_TOKEN", None, "The session token of a temporary access key.", is_secret=True
    )


@dataclass(frozen=True)
class Environment:
    """The location of one environment's objects, and the access to the store.

    Without `credentials`, AWS's default chain applies (environment, profile, IAM role).
    Without `endpoint_url`, AWS's own endpoint of the region applies.
    Events link to `console_url`, the query service's console, and to `object_url`, which has `{bucket}` and `{key}`.
    """

    name: str = setting(
        "ENVIRONMENT",
        REQUIRED,
        "local, uat or prod: the bucket, the region, and the first word of table names.",
        shown="`local`",
    )
    bucket: str = setting(
        "S3_BUCKET",
        REQUIRED,
        "The bucket of `local`. `uat` and `prod` have `UAT_S3_BUCKET` and `PROD_S3_BUCKET`, which are required.",
        shown="`dagster-parquet-data`",
    )
    region: str = setting(
        "AWS_REGION",
        REQUIRED,
        "The region of the bucket.",
        shown="`us-east-1` for `local`, `us-east-2` for `uat` and `prod`",
    )
    prefix: str = setting("S3_PREFIX", _DEFAULT_PREFIX, "The prefix of every object key.")
    endpoint_url: str | None = setting("AWS_ENDPOINT_URL", None, "The S3 endpoint. Not set: AWS.", shown="AWS")
    credentials: Credentials | None = None
    console_url: str | None = setting(
        "DAGFUSION_CONSOLE_URL",
        None,
        "The query service's console, which events link to. The local stack sets its own.",
    )
    object_url: str | None = setting(
        "DAGFUSION_OBJECT_URL",
        None,
        "The target of the link `s3_path` on events, with `{bucket}` and `{key}`. It has no signature.",
        shown="AWS's console, or the endpoint",
    )

    @classmethod
    def read(cls, settings: Mapping[str, str]) -> Self:
        """Return the environment that the settings describe; an empty value counts as not set.

        Raises:
            ConfigurationError: A variable is missing or its value is not usable; one line, without any secret.
        """
        name = settings.get("ENVIRONMENT") or "local"
        if name not in _ENVIRONMENTS:
            raise _wrong("ENVIRONMENT", "local, uat or prod", name)
        defaults = _ENVIRONMENTS[name]
        return cls(
            name=name,
            bucket=_bucket(settings, name, defaults),
            region=_checked(settings, "AWS_REGION", defaults.region, _is_region, "a region such as us-east-2"),
            prefix=_checked(settings, "S3_PREFIX", _DEFAULT_PREFIX, _is_prefix, "folder names joined by slashes"),
            endpoint_url=_endpoint_url(settings),
            credentials=_credentials(settings),
            console_url=_console_url(settings),
            object_url=settings.get("DAGFUSION_OBJECT_URL") or None,
        )

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


def _bucket(settings: Mapping[str, str], environment: str, defaults: _Defaults) -> str:
    variable = defaults.bucket_variable
    if not settings.get(variable) and defaults.bucket is None:
        raise ConfigurationError(
            f"{variable} is required when ENVIRONMENT={environment}: set it to the name of the bucket; it is not set",
        )
    requirement = "a bucket name (3 to 63 lower-case letters, digits, dots and hyphens)"
    return _checked(settings, variable, defaults.bucket or "", _is_bucket, requirement)


def _endpoint_url(settings: Mapping[str, str]) -> str | None:
    variable = "AWS_ENDPOINT_URL"
    value = settings.get(variable)
    if not value:
        return None
    if "@" in value:
        raise ConfigurationError(
            f"{variable} must not hold a user or password: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
        )
    if not _is_server(value):
        raise _wrong(variable, "a URL such as http://127.0.0.1:8333", value)
    return value.rstrip("/")


def _console_url(settings: Mapping[str, str]) -> str | None:
    variable = "DAGFUSION_CONSOLE_URL"
    value = settings.get(variable)
    if value and ("@" in value or not _is_server(value)):
        raise _wrong(variable, "a URL such as http://localhost:8080, without a user or password", value)
    return value or None


def _credentials(settings: Mapping[str, str]) -> Credentials | None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    set_names = [name for name in names if settings.get(name)]
    token = settings.get("AWS_SESSION_TOKEN") or None
    if len(set_names) == len(names):
        return Credentials(settings[names[0]], settings[names[1]], token)
    if set_names or token:
        missing = next(name for name in names if name not in set_names)
        present = set_names[0] if set_names else "AWS_SESSION_TOKEN"
        raise ConfigurationError(
            f"{missing} is required when {present} is given: set both keys, or neither to use AWS's default chain;"
            " it is not set",
        )
    return None


def _checked(
    settings: Mapping[str, str], variable: str, default: str, accepts: Callable[[str], bool], requirement: str
) -> str:
    value = settings.get(variable) or default
    if not accepts(value):
        raise _wrong(variable, requirement, value)
    return value


def _wrong(variable: str, requirement: str, value: str) -> ConfigurationError:
    shown = value if len(value) <= _LONGEST_ECHO else value[:_LONGEST_ECHO] + "..."
    return ConfigurationError(f"{variable} must be {requirement}; got {shown!r}")


def _is_bucket(value: str) -> bool:
    return _BUCKET_NAME.fullmatch(value) is not None and ".." not in value


def _is_region(value: str) -> bool:
    return _REGION_NAME.fullmatch(value) is not None


def _is_server(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # an unclosed bracket, or a port out of range
        return False
    is_bare = not (parts.query or parts.fragment or re.search(r"\s", value))
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and is_bare


def _is_prefix(value: str) -> bool:
    return _PREFIX_NAME.fullmatch(value) is not None and not {".", ".."} & set(value.split("/"))
