"""Settings of the engine and of environments: read once from a mapping into a frozen value.

Arguments override variables. If neither names an event log, the local stack's `stack.env` in `$DAGFUSION_HOME` provides
it, together with its endpoint and keys. The shell's endpoint and keys are ignored then: they are for another store.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagfusion_client.errors import SettingsError
from dagfusion_client.settings import READER
from dagfusion_contract import metadata_uri
from dagfusion_contract.environments import LOCAL, StoreSettings, check_store, default_region
from dagfusion_contract.local_stack import HOME, stack_variables
from dagfusion_contract.setting_declarations import as_variables, declared, names, setting, setting_like
from dagfusion_contract.uri import is_folder

NO_STATE = "none"  # instead of a folder: keep nothing
METADATA_KEYS = ",".join(metadata_uri.METADATA_KEYS)
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """The settings of the engine and of one environment; `Settings.read` makes them from variables."""

    event_log: str | None = setting(
        "DAGFUSION_EVENT_LOG",
        None,
        "Dagster's event log: a postgresql:// URL, `secretsmanager://name#key` that has one, or a DAGSTER_HOME folder.",
        is_secret=True,
        shown="`DAGSTER_HOME`",
    )
    environment: str = setting_like(StoreSettings, "environment", LOCAL)
    endpoint_url: str | None = setting_like(StoreSettings, "endpoint_url")
    region: str | None = setting_like(StoreSettings, "region")
    access_key_id: str | None = setting_like(StoreSettings, "access_key_id")
    secret_access_key: str | None = setting_like(StoreSettings, "secret_access_key")
    session_token: str | None = setting_like(StoreSettings, "session_token")
    home: str = setting(
        "DAGFUSION_HOME", HOME, "The local stack's folder. Its stack.env is read if no event log is named."
    )
    state_dir: str | None = setting(
        "DAGFUSION_STATE_DIR",
        None,
        "The state folder: catalog snapshots, which later processes and the workers of a service load. A service also "
        "keeps access tokens and finished queries there. `none` keeps nothing; a service cannot use it.",
        section="service",
        shown="of a service, `service` in `DAGFUSION_HOME`; else `dagfusion` in the user's cache folder",
        is_path=True,
    )
    metadata_keys: str = setting(
        "DAGFUSION_METADATA_KEYS",
        METADATA_KEYS,
        "Metadata keys that name the Parquet files of other IO managers, in order of preference.",
    )
    catalog_checkpoint: str | None = setting(
        "DAGFUSION_CATALOG_CHECKPOINT",
        None,
        "A folder such as `s3://bucket/_catalog`, outside of the tables, for the checkpoint of the catalog. If it is "
        "set, rows of events that are purged from Dagster's event log stay in the tables (PostgreSQL only). Only the "
        "service writes the checkpoint.",
        accepts=is_folder,
        requirement="s3://bucket/folder without ?, # and %",
    )
    archived_after_days: int = setting(
        "DAGFUSION_ARCHIVED_AFTER_DAYS",
        0,
        "Days after which a lifecycle rule of the bucket archives or deletes objects. Queries leave out files whose "
        "objects are older, and their results have a warning. 0: no file is left out.",
        numbers=range(36_501),
    )
    poll_interval_s: float = setting(
        "DAGFUSION_POLL_INTERVAL_S", 0.5, "Seconds between two polls of the event log.", section="engine"
    )
    parallelism: int = setting(
        "DAGFUSION_PARALLELISM",
        max(4, _CORES),
        "The plan partitions of a query: the number of threads that it uses.",
        shown="the number of cores, at least 4",
        section="engine",
    )
    scan_concurrency: int = setting(
        "DAGFUSION_SCAN_CONCURRENCY", 64, "The maximum number of objects that one scan reads at once.", section="engine"
    )
    scan_window_bytes: int = setting(
        "DAGFUSION_SCAN_WINDOW_BYTES",
        256 << 20,
        "The maximum size of the objects that one scan reads at once, in bytes. If objects are large, fewer are read "
        "concurrently.",
        section="engine",
    )
    memory_limit_bytes: int = setting(
        "DAGFUSION_MEMORY_LIMIT_BYTES", 2 << 30, "The maximum memory of joins, sorts and aggregates.", section="engine"
    )
    footer_cache_bytes: int = setting(
        "DAGFUSION_FOOTER_CACHE_BYTES", 256 << 20, "Memory of the cache of Parquet footers.", section="engine"
    )
    plan_cache_bytes: int = setting(
        "DAGFUSION_PLAN_CACHE_BYTES",
        64 << 20,
        "Memory of the cache of plans, which repeated statements reuse.",
        section="engine",
    )
    object_cache_dir: str | None = setting(
        "DAGFUSION_OBJECT_CACHE_DIR",
        None,
        "The folder of local copies of objects. `none` makes no copies.",
        shown="`objects` in the state folder",
        section="engine",
        is_path=True,
    )
    object_cache_bytes: int = setting(
        "DAGFUSION_OBJECT_CACHE_BYTES",
        4 << 30,
        "Disk space of local copies of objects, for all processes together.",
        section="engine",
    )
    object_cache_object_bytes: int = setting(
        "DAGFUSION_OBJECT_CACHE_OBJECT_BYTES",
        3 << 20,
        "The largest object that is always fetched whole into a local copy. A larger one of a consolidation is copied, "
        "whole up to 16 MB and else by block, if that takes 1 MB or less for each request of a read in place.",
        section="engine",
    )
    result_cache_dir: str | None = setting(
        "DAGFUSION_RESULT_CACHE_DIR",
        None,
        "The folder of results that are kept for equal queries. `none` keeps no results.",
        shown="`results` in the state folder",
        section="engine",
        is_path=True,
    )
    result_cache_bytes: int = setting(
        "DAGFUSION_RESULT_CACHE_BYTES",
        512 << 20,
        "Disk space of kept results, for all processes together.",
        section="engine",
    )
    result_cache_result_bytes: int = setting(
        "DAGFUSION_RESULT_CACHE_RESULT_BYTES", 8 << 20, "The largest result that is kept.", section="engine"
    )
    result_cache_memory_bytes: int = setting(
        "DAGFUSION_RESULT_CACHE_MEMORY_BYTES",
        32 << 20,
        "Memory of the kept results that were used last, in each process.",
        section="engine",
    )
    store_stall_s: float = setting(
        "DAGFUSION_STORE_STALL_S",
        5.0,
        "Seconds without a batch after which the query checks that the object store answers.",
        section="engine",
    )

    cache_dir: str | None = field(
        default=None, metadata={"help": "The user's cache folder: XDG_CACHE_HOME, else ~/.cache."}
    )
    is_local_stack: bool = field(
        default=False, metadata={"help": "Whether the event log is that of the folder's stack."}
    )

    @classmethod
    def read(cls, variables: Mapping[str, str], **arguments: Any) -> "Settings":
        """Make settings from variables; `arguments` win over them.

        Raises:
            SettingsError: A variable has a value that it cannot have.
        """
        stack = _stack_variables(variables, arguments)
        merged = {**{k: v for k, v in variables.items() if v != ""}, **stack}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        others = [each for each in declared(cls) if each.name not in arguments]
        values = {**READER.read_values(others, merged), **arguments}
        if not values.get("event_log") and merged.get("DAGSTER_HOME"):
            values["event_log"] = merged["DAGSTER_HOME"]
        environment = values.setdefault("environment", LOCAL)
        check_environment_name(environment)
        values.setdefault("region", default_region(environment))
        settings = cls(**values, is_local_stack=bool(stack), cache_dir=_cache_dir(variables))
        check_store(READER, as_variables(cls, {name: getattr(settings, name) for name in names(cls)}))
        return settings

    @property
    def allows_http(self) -> bool:
        """True if the endpoint of the object store has no TLS."""
        return self.endpoint_url is not None and self.endpoint_url.startswith("http://")

    def state_folder(self, *, of_service: bool = False) -> Path | None:
        """Return the folder for what later processes use: `state_dir`, or its default; None to keep nothing.

        Args:
            of_service: Whether a service asks. Its tokens must not be in a cache, which may be deleted at any time.
        """
        if self.state_dir is not None:
            return None if self.state_dir == NO_STATE else Path(self.state_dir).expanduser()
        if of_service:
            return Path(self.home, "service")
        return None if self.cache_dir is None else Path(self.cache_dir, "dagfusion")


def stack_service(variables: Mapping[str, str]) -> str | None:
    """Return the URL of the query service of the folder's stack; None if variables name another source, or none is."""
    if variables.get("DAGFUSION_URL"):
        return None
    return _stack_variables(variables, {}).get("DAGFUSION_CONSOLE_URL")


# The settings of a query engine, whichever environment it reads.
ENGINE_SETTINGS = names(Settings, "engine")


def is_environment_name(name: str) -> bool:
    """Return True if a name can begin the names of schemas: it is a lower-case identifier."""
    return _NAME.fullmatch(name) is not None


def check_environment_name(name: str) -> None:
    """Refuse a name that cannot begin a schema's.

    Raises:
        SettingsError: The name is not a lower-case identifier.
    """
    if not is_environment_name(name):
        raise SettingsError(
            f"an environment's name must be a lower-case identifier such as uat or prod_eu, got {name!r}: it begins "
            "the names of its schemas"
        )


def listed(text: str) -> tuple[str, ...]:
    """Read a list whose items are separated by commas."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _cache_dir(variables: Mapping[str, str]) -> str | None:
    """Return where XDG keeps what can be made again; None where the variables tell of no user."""
    xdg_cache = variables.get("XDG_CACHE_HOME", "")
    if Path(xdg_cache).is_absolute():
        return xdg_cache
    return str(Path(variables["HOME"], ".cache")) if variables.get("HOME") else None


def _stack_variables(variables: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return what the local stack says of itself, unless the caller points somewhere else."""
    if arguments.get("event_log"):
        return {}
    try:
        return stack_variables(variables)
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from error
