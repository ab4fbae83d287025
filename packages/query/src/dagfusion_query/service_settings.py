"""Settings of the service and of its environments. Variables override `dagfusion.toml`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagfusion_client.engine_choice import EngineChoice, is_spark_url
from dagfusion_client.settings import READER
from dagfusion_contract.environments import StoreSettings, check_store, is_server
from dagfusion_contract.secret_reference import is_reference
from dagfusion_contract.setting_declarations import declaration, declared, setting, setting_like, setting_of_environment
from dagfusion_contract.uri import is_folder
from dagfusion_query.grant_names import REQUIREMENT, is_grant_name
from dagfusion_query.settings import Settings, listed

ANONYMOUS_CHOICES = ("auto", "loopback", "never", "always")
LOG_FORMATS = ("text", "json")
NO_CREDENTIALS, OWN_KEYS = "none", "keys"  # for clients of the Iceberg catalog, beside the ARN of a role
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
# An origin as browsers write it.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?")
QUERIES, QUERIES_LIMIT = 1000, 10_000  # ended queries of a page by default, and at most
LISTED_OBJECTS, ORPHANS_AFTER_H = 100_000, 24.0  # of `dagfusion doctor`, by default
_CORES = os.cpu_count() or 1


def _gives_credentials(text: str) -> bool:
    return text in (NO_CREDENTIALS, OWN_KEYS) or _ROLE.fullmatch(text) is not None


def _are_grant_names(text: str) -> bool:
    return all(is_grant_name(name.strip()) for name in text.split(","))


def _items(text: str) -> frozenset[str]:
    return frozenset(listed(text))


def _are_origins(text: str) -> bool:
    return all(_ORIGIN.fullmatch(origin) for origin in listed(text))


def _without_last_slash(text: str) -> str:
    return text.rstrip("/")


def _is_spark(text: str) -> bool:
    return is_reference(text) or is_spark_url(text)


def _is_folder(uri: str) -> bool:
    return is_folder(uri, ("s3", "file"))


@dataclass(frozen=True)
class ConfigSettings:
    """The location of the service's configuration. These are variables only: `dagfusion.toml` cannot have them."""

    config: str | None = setting("DAGFUSION_CONFIG", None, "The configuration file.", shown="`./dagfusion.toml`")
    environments: str | None = setting(
        "DAGFUSION_ENVIRONMENTS",
        None,
        "Names of environments, separated by commas. Variables such as `DAGFUSION_UAT_EVENT_LOG` set the keys of each.",
        shown="those of `dagfusion.toml`, else one",
    )
    dagster_url: str | None = setting(
        "DAGFUSION_DAGSTER_URL",
        None,
        "Dagster's web interface, for links.",
        accepts=is_server,
        requirement="the http:// or https:// URL of Dagster's UI, without a password",
        read=_without_last_slash,
    )
    iceberg_metadata: str | None = setting(
        "DAGFUSION_ICEBERG_METADATA",
        None,
        "A folder such as `s3://bucket/_iceberg`, outside of the tables, for Iceberg metadata. If it is set, "
        "`/iceberg` on the HTTP address is an Iceberg REST catalog.",
        accepts=_is_folder,
        requirement="s3://bucket/folder or file:///folder without ?, # and %",
        read=_without_last_slash,
    )
    iceberg_credentials: str = setting(
        "DAGFUSION_ICEBERG_CREDENTIALS",
        NO_CREDENTIALS,
        "The S3 credentials that clients of the Iceberg catalog get. `none`: no credentials; clients use their own. "
        "The ARN of an IAM role: temporary credentials of the role, which can read only the requested table. `keys`: "
        "the service's own keys. DANGER: a client can then access everything that the service can access, regardless "
        "of its grants.",
        accepts=_gives_credentials,
        requirement="none, keys, or the ARN of an IAM role such as arn:aws:iam::123456789012:role/iceberg-clients",
    )
    iceberg_consolidated: frozenset[str] = setting(
        "DAGFUSION_ICEBERG_CONSOLIDATED",
        frozenset(),
        "Tables whose large objects the Iceberg catalog names in place of the small ones, separated by commas: tables "
        "(`uat_silver.orders`), schemas (`uat_silver.*`), environments (`uat`), or `*` for all. A large object is "
        "named while all that it holds is current.",
        shown="no table",
        accepts=_are_grant_names,
        requirement=f"{REQUIREMENT}, separated by commas",
        read=_items,
    )

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "ConfigSettings":
        """Make settings from variables."""
        return cls(**READER.read_values(declared(cls), variables))


@dataclass(frozen=True)
class EnvironmentSettings:
    """The settings of one of several environments: in `[environments.<name>]`, or as `DAGFUSION_<NAME>_<KEY>`."""

    event_log: str | None = setting_of_environment("DAGFUSION_{NAME}_EVENT_LOG", Settings, "event_log")
    s3_bucket: str | None = setting_like(
        StoreSettings,
        "bucket",
        variable="DAGFUSION_{NAME}_S3_BUCKET",
        help_text="The only bucket that is read. Not set: any bucket, and local files.",
        shown="",
    )
    aws_region: str | None = setting_of_environment("DAGFUSION_{NAME}_AWS_REGION", Settings, "region")
    aws_endpoint_url: str | None = setting_of_environment("DAGFUSION_{NAME}_AWS_ENDPOINT_URL", Settings, "endpoint_url")
    aws_access_key_id: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_AWS_ACCESS_KEY_ID", Settings, "access_key_id"
    )
    aws_secret_access_key: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_AWS_SECRET_ACCESS_KEY", Settings, "secret_access_key"
    )
    aws_session_token: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_AWS_SESSION_TOKEN", Settings, "session_token"
    )
    dagster_url: str | None = setting_of_environment("DAGFUSION_{NAME}_DAGSTER_URL", ConfigSettings, "dagster_url")
    metadata_keys: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_METADATA_KEYS", Settings, "metadata_keys", inherits=True
    )
    catalog_checkpoint: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_CATALOG_CHECKPOINT", Settings, "catalog_checkpoint"
    )
    archived_after_days: int | None = setting_of_environment(
        "DAGFUSION_{NAME}_ARCHIVED_AFTER_DAYS", Settings, "archived_after_days", inherits=True
    )
    iceberg_metadata: str | None = setting_of_environment(
        "DAGFUSION_{NAME}_ICEBERG_METADATA", ConfigSettings, "iceberg_metadata"
    )
    iceberg_credentials: str = setting_of_environment(
        "DAGFUSION_{NAME}_ICEBERG_CREDENTIALS", ConfigSettings, "iceberg_credentials"
    )
    iceberg_consolidated: frozenset[str] = setting_of_environment(
        "DAGFUSION_{NAME}_ICEBERG_CONSOLIDATED", ConfigSettings, "iceberg_consolidated"
    )

    @classmethod
    def read(cls, name: str, values: Mapping[str, str]) -> "EnvironmentSettings":
        """Make the settings of an environment from values by key.

        Raises:
            SettingsError: A setting has a value that it cannot have, or an AWS key is incomplete.
        """
        where = f"environment {name}:"
        settings = cls(
            **{key: READER.checked(declaration(cls, key), f"{where} {key}", value) for key, value in values.items()}
        )
        check_store(READER, {key.upper(): value for key, value in vars(settings).items()}, f"{where} ", str.lower)
        return settings


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of the service, without its environments."""

    http_address: str = setting(
        "DAGFUSION_HTTP_ADDRESS", "127.0.0.1:8080", "Host and port of HTTP and the console.", section="service"
    )
    flight_address: str = setting(
        "DAGFUSION_FLIGHT_ADDRESS", "127.0.0.1:8081", "Host and port of Arrow Flight SQL.", section="service"
    )
    iceberg_snapshot_hours: float = setting(
        "DAGFUSION_ICEBERG_SNAPSHOT_HOURS",
        24.0,
        "Hours for which a replaced state of a table stays a snapshot in the Iceberg catalog, for tables with "
        "`per_run` names: at most `older_than_hours` of the vacuum, which deletes the objects.",
        section="service",
    )
    iceberg_origins: frozenset[str] = setting(
        "DAGFUSION_ICEBERG_ORIGINS",
        frozenset(),
        "Web pages that may use the Iceberg catalog in a browser (CORS): their origins, separated by commas, such as "
        "`https://app.example.com`. Such a page can read the tables that need no token, as the user who opens it.",
        shown="no pages of other sites",
        section="service",
        accepts=_are_origins,
        requirement="origins such as https://app.example.com or http://localhost:3000, separated by commas",
        read=_items,
    )
    sts_endpoint_url: str | None = setting(
        "AWS_ENDPOINT_URL_STS",
        None,
        "The endpoint of AWS's STS, which gives credentials to clients of the Iceberg catalog.",
        shown="`AWS_ENDPOINT_URL`, else AWS",
        section="service",
        accepts=is_server,
        requirement="a URL such as http://127.0.0.1:4566, without a user or password",
    )
    tls_certificate: str | None = setting(
        "DAGFUSION_TLS_CERTIFICATE", None, "PEM file with the certificate chain.", section="service", is_path=True
    )
    tls_key: str | None = setting(
        "DAGFUSION_TLS_KEY", None, "PEM file with the certificate's private key.", section="service", is_path=True
    )
    tokens: str | None = setting(
        "DAGFUSION_TOKENS",
        None,
        "The file of access tokens, or `secretsmanager://name` whose text is one.",
        section="service",
        shown="`tokens.json` in the state folder",
        is_path=True,
    )
    anonymous: str = setting(
        "DAGFUSION_ANONYMOUS",
        "auto",
        "Who may connect without a token. auto: programs on this machine, until the first token is created. never: no "
        "one. loopback: programs on this machine, even after tokens are created. DANGER: a proxy on this machine that "
        "adds no Forwarded header looks like such a program, and all its clients can read everything. always: any "
        "client.",
        section="service",
        choices=ANONYMOUS_CHOICES,
    )
    workers: int = setting(
        "DAGFUSION_WORKERS",
        _CORES,
        "The number of statements that run at the same time, each in a process of its own.",
        section="service",
        shown="the number of cores",
    )
    worker_memory_bytes: int = setting(
        "DAGFUSION_WORKER_MEMORY_BYTES",
        4 << 30,
        "The maximum memory of one worker, which the operating system enforces too.",
        section="service",
    )
    sql_limit_bytes: int = setting(
        "DAGFUSION_SQL_LIMIT_BYTES", 1 << 20, "The maximum length of a statement, in bytes.", section="service"
    )
    query_timeout_s: float = setting(
        "DAGFUSION_QUERY_TIMEOUT_S", 300.0, "Query timeout, in seconds.", section="service"
    )
    client_stall_s: float = setting(
        "DAGFUSION_CLIENT_STALL_S",
        60.0,
        "Idle timeout: seconds without a read by the client before a streaming query is cancelled.",
        section="service",
    )
    result_limit_rows: int = setting(
        "DAGFUSION_RESULT_LIMIT_ROWS", 1_000_000_000, "The maximum number of rows of a result.", section="service"
    )
    result_limit_bytes: int = setting(
        "DAGFUSION_RESULT_LIMIT_BYTES", 64 << 30, "The maximum size of a result, in bytes.", section="service"
    )
    user_queries: int = setting(
        "DAGFUSION_USER_QUERIES",
        _CORES,
        "The maximum number of running queries of one user. Further queries of the user wait.",
        section="service",
        shown="the number of cores",
    )
    queue_length: int = setting(
        "DAGFUSION_QUEUE_LENGTH", 256, "The maximum number of queries that wait for a worker.", section="service"
    )
    user_queue_length: int = setting(
        "DAGFUSION_USER_QUEUE_LENGTH", 128, "The maximum number of waiting queries of one user.", section="service"
    )
    queue_timeout_s: float = setting(
        "DAGFUSION_QUEUE_TIMEOUT_S", 30.0, "Queue timeout: seconds that a query waits for a worker.", section="service"
    )
    cancel_grace_s: float = setting(
        "DAGFUSION_CANCEL_GRACE_S",
        0.3,
        "Grace period: seconds that a cancelled statement has to stop before its worker is killed.",
        section="service",
    )
    log_format: str = setting(
        "DAGFUSION_LOG_FORMAT",
        "text",
        "The lines of the service's log on standard error. json: one JSON object per line, with `query_id` for lines "
        "about a query.",
        section="service",
        choices=LOG_FORMATS,
    )
    cloudwatch_namespace: str | None = setting(
        "DAGFUSION_CLOUDWATCH_NAMESPACE",
        None,
        "A namespace of CloudWatch, such as DagFusion/uat. If it is set, the metrics of `/metrics` are written to "
        "standard output each minute, in CloudWatch's embedded metric format.",
        section="service",
        shown="none: no such lines",
    )
    warm_up_bytes: int = setting(
        "DAGFUSION_WARM_UP_BYTES",
        0,
        "If it is not 0, the new objects of tables that are queried often are fetched into local copies when the "
        "catalog has them: at most so many bytes within an hour, of all tables together, the newest objects of a table "
        "first. At most 5 % of `DAGFUSION_OBJECT_CACHE_BYTES`.",
        section="service",
        numbers=range(2**63),
    )
    warm_up_queries: int = setting(
        "DAGFUSION_WARM_UP_QUERIES",
        3,
        "The number of queries over a table within the last hour from which on its new objects are fetched.",
        section="service",
        numbers=range(1, 10_001),
    )
    engine: str = setting(
        "DAGFUSION_ENGINE",
        EngineChoice.local.value,
        "The engine of statements that choose none. local: the workers. spark: the Spark Connect server. auto: the "
        "Spark Connect server for statements whose files have `DAGFUSION_SPARK_AUTO_BYTES` or more.",
        section="service",
        choices=tuple(EngineChoice),
    )
    spark_remote: str | None = setting(
        "DAGFUSION_SPARK_REMOTE",
        None,
        "The Spark Connect server, such as `sc://host:15002` or `sc://host:443/;use_ssl=true;token=...`, or "
        "`secretsmanager://name#key` for such a URL in AWS Secrets Manager.",
        section="service",
        is_secret=True,
        shown="none: statements run in the workers",
        accepts=_is_spark,
        requirement="sc://host:port, with use_ssl, token and user_id after /; if they are needed",
    )
    spark_catalog: str = setting(
        "DAGFUSION_SPARK_CATALOG",
        "lake",
        "The name of the service's Iceberg catalog in the Spark Connect server.",
        section="service",
    )
    spark_auto_bytes: int = setting(
        "DAGFUSION_SPARK_AUTO_BYTES",
        16 << 30,
        "With the engine `auto`: the size of the files of a statement, in bytes, from which it runs on the Spark "
        "Connect server. It is known exactly before the statement runs.",
        section="service",
    )
    history_queries: int = setting(
        "DAGFUSION_HISTORY_QUERIES",
        100_000,
        "The maximum number of finished queries in the history, which is a file of the state folder. It has the text "
        "of statements and of errors, which may quote parameters and values. 0: no file; the service then lists its "
        "last 1,000 queries until it stops.",
        section="service",
        numbers=range(10_000_001),
    )
    history_bytes: int = setting(
        "DAGFUSION_HISTORY_BYTES",
        1 << 30,
        "The maximum size of the file of the history, in bytes. The oldest queries are deleted.",
        section="service",
    )

    @classmethod
    def read(cls, variables: Mapping[str, str], table: Mapping[str, Any] | None = None) -> "ServiceSettings":
        """Make settings from variables, and from a table of values by field name for those that are not set.

        Raises:
            SettingsError: A setting has a value that it cannot have.
        """
        settings = cls(**READER.read_values(declared(cls), variables, table))
        READER.check_pair(
            ("DAGFUSION_TLS_CERTIFICATE", settings.tls_certificate), ("DAGFUSION_TLS_KEY", settings.tls_key)
        )
        return settings
