"""The environments local, uat and prod with their defaults, and the settings of an object store.

The pipeline, the query side and the stack take their declarations from here, so that each accepts the same values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from dagfusion_contract.setting_declarations import SettingReader, setting

LOCAL = "local"
BUCKET = "S3_BUCKET"
PREFIX = "datafusion_test"  # of the pipeline's object keys
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION_OF_AWS = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}")
_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_REGION_REQUIREMENT = "a region such as us-east-2"
_BUCKET_REQUIREMENT = "a bucket name (3 to 63 lower-case letters, digits, dots and hyphens)"


@dataclass(frozen=True)
class EnvironmentDefaults:
    """The region and the bucket of an environment if no setting names others.

    Attributes:
        region: The region of its bucket.
        bucket_variable: The variable that names the pipeline's bucket.
        bucket: The bucket if that variable is not set; None requires the variable.
    """

    region: str
    bucket_variable: str
    bucket: str | None = None


DEFAULTS: Mapping[str, EnvironmentDefaults] = {
    LOCAL: EnvironmentDefaults("us-east-1", BUCKET, "dagster-parquet-data"),
    "uat": EnvironmentDefaults("us-east-2", "UAT_S3_BUCKET"),
    "prod": EnvironmentDefaults("us-east-2", "PROD_S3_BUCKET"),
}
ENVIRONMENTS = tuple(DEFAULTS)


def default_region(environment: str) -> str:
    """Return the region of an environment, which may have another name than these.

    >>> default_region("uat"), default_region("staging")
    ('us-east-2', 'us-east-1')
    """
    return DEFAULTS.get(environment, DEFAULTS[LOCAL]).region


def is_bucket(text: str, *, is_aws: bool = False) -> bool:
    """Return True if a text can name a bucket, of AWS or of any other store.

    >>> is_bucket("lake.uat", is_aws=True), is_bucket("My_Lake"), is_bucket("My_Lake", is_aws=True)
    (True, True, False)
    """
    if is_aws:
        return _BUCKET.fullmatch(text) is not None and ".." not in text
    return re.search(r"[\s/]", text) is None


def is_prefix(text: str) -> bool:
    """Return True if the keys of objects can begin with a text and a slash.

    >>> is_prefix("lake/silver"), is_prefix("lake//silver"), is_prefix("lake/..")
    (True, False, False)
    """
    return {"", ".", ".."}.isdisjoint(text.split("/"))


def is_region(text: str, *, is_aws: bool = False) -> bool:
    """Return True if a text can name a region, of AWS or of any other store.

    >>> is_region("us-east-2", is_aws=True), is_region("auto"), is_region("auto", is_aws=True)
    (True, True, False)
    """
    return (_REGION_OF_AWS if is_aws else _REGION).fullmatch(text) is not None


def is_server(text: str) -> bool:
    """Return True if a text is the http:// or https:// URL of a server, without a user or password.

    >>> is_server("http://127.0.0.1:8333"), is_server("127.0.0.1:8333"), is_server("http://me:secret@host")
    (True, False, False)
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # an unclosed bracket, or a port out of range
        return False
    is_bare = not (parts.query or parts.fragment or re.search(r"[\s@]", text))
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and is_bare


@dataclass(frozen=True)
class StoreSettings:
    """An environment and the access to its object store. `setting_like` takes these settings into other classes."""

    environment: str = setting(
        "ENVIRONMENT",
        LOCAL,
        "local, uat or prod: the bucket, the region, and the first word of schema names.",
        choices=ENVIRONMENTS,
        shown=f"`{LOCAL}`",
    )
    bucket: str | None = setting(
        BUCKET,
        DEFAULTS[LOCAL].bucket,
        "The bucket of `local`. `uat` and `prod` have `UAT_S3_BUCKET` and `PROD_S3_BUCKET`, which are required.",
        shown=f"`{DEFAULTS[LOCAL].bucket}`",
        accepts=is_bucket,
        requirement=_BUCKET_REQUIREMENT,
    )
    region: str | None = setting(
        "AWS_REGION",
        None,
        "The region of the bucket. With an endpoint, it may have another form than AWS's.",
        shown=f"`{default_region('uat')}` for `uat` and `prod`, else `{default_region(LOCAL)}`",
        accepts=is_region,
        requirement=_REGION_REQUIREMENT,
    )
    endpoint_url: str | None = setting(
        "AWS_ENDPOINT_URL",
        None,
        "The S3 endpoint. Not set: AWS.",
        shown="AWS",
        accepts=is_server,
        requirement="a URL such as http://127.0.0.1:8333, without a user or password",
    )
    access_key_id: str | None = setting(
        "AWS_ACCESS_KEY_ID",
        None,
        "The S3 access key. Not set: AWS's default credential chain.",
        shown="AWS's default chain",
        is_secret=True,
    )
    secret_access_key: str | None = setting(
        "AWS_SECRET_ACCESS_KEY",
        None,
        "The secret of the access key. Set both or neither.",
        shown="AWS's default chain",
        is_secret=True,
    )
    session_token: str | None = setting(
        "AWS_SESSION_TOKEN", None, "The session token of a temporary access key.", is_secret=True
    )


def check_store(
    reader: SettingReader,
    values: Mapping[str, str | None],
    where: str = "",
    name: Callable[[str], str] = str,
) -> None:
    """Check the settings of a store that depend on each other: a key's parts, and region and bucket of AWS.

    Args:
        reader: Makes the error.
        values: Values by variable, such as `AWS_REGION`; an empty one counts as not set.
        where: The beginning of the message.
        name: Returns what the message calls a variable.

    Raises:
        reader.error: A key is incomplete, or without an endpoint the region or the bucket cannot be AWS's.
    """
    key, secret, token = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
    reader.check_pair((f"{where}{name(key)}", values.get(key)), (name(secret), values.get(secret)))
    if values.get(token) and not values.get(key):
        raise reader.error(
            f"{where}{name(token)} is of a temporary access key: set {name(key)} and {name(secret)} too, or none of the"
            " three to use AWS's default chain"
        )
    if values.get("AWS_ENDPOINT_URL"):
        return
    region, bucket = values.get("AWS_REGION"), values.get(BUCKET)
    if region and not is_region(region, is_aws=True):
        raise reader.refusal(f"{where}{name('AWS_REGION')}", _REGION_REQUIREMENT, region)
    if bucket and not is_bucket(bucket, is_aws=True):
        raise reader.refusal(f"{where}{name(BUCKET)}", _BUCKET_REQUIREMENT, bucket)
