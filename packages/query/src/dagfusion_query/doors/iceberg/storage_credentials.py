"""The S3 credentials that clients of the Iceberg catalog get: none, the service's own keys, or those of an IAM role.

A role is assumed for each table and user, with a session policy that allows only to read the table's folder and the
folder of its metadata. AWS allows what both this policy and the role's own policies allow.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from dagfusion_contract.naming import TableName, table_name
from dagfusion_contract.uri import is_s3, object_path, store_parts, store_url
from dagfusion_query import service_settings
from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.environments import EnvironmentState
from dagfusion_query.catalog.model import Snapshot, Table, common_location
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.errors import SettingsError, needs
from dagfusion_query.object_store import store_keys
from dagfusion_query.secrets_manager import aws_client

_log = logging.getLogger(__name__)
_LIFE = timedelta(hours=1)  # the longest that a role gives which another role assumes
_LEAST_LIFE = timedelta(minutes=15)  # that is left for a client's scan
_MAX_SESSIONS = 1000
_SESSION_NAME = 64  # characters
_NOT_IN_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)
_WILDCARD = re.compile(r"[*?$]")


@dataclass(frozen=True)
class StorageAccess:
    """The settings that a client reads a table's objects with.

    Attributes:
        config: By the names of the protocol; empty if the client has to use its own.
        places: The URIs that they are for.
    """

    config: Mapping[str, str]
    places: Sequence[str]

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The settings in the protocol's form: one element for each place."""
        return [{"prefix": place, "config": self.config} for place in self.places]


NO_ACCESS = StorageAccess({}, ())


class StorageCredentials:
    """The credentials of one environment. Thread-safe.

    Args:
        environment: Has the service's keys, and says what clients get.
    """

    def __init__(self, environment: EnvironmentConfig) -> None:
        self._environment = environment
        self._sessions: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def access(self, state: EnvironmentState, table: Table, metadata: str, caller: Caller) -> StorageAccess:
        """Return the access to the objects of a table. May call AWS.

        Args:
            state: The environment's tables.
            table: One of them.
            metadata: The URI of the folder of its metadata.
            caller: Who gets it.

        Raises:
            SettingsError: The role cannot be assumed.
            MissingExtraError: The extra `aws` is not installed.
            SecretUnavailableError: The service's keys are in a secret that cannot be read.
        """
        match self._environment.iceberg_credentials:
            case service_settings.NO_CREDENTIALS:
                return NO_ACCESS
            case service_settings.OWN_KEYS:
                return self._own(table, metadata)
            case role:
                return self._of_role(role, state, table, metadata, caller)

    def _own(self, table: Table, metadata: str) -> StorageAccess:
        """Return the service's keys. They read all of its buckets, whatever the caller may read."""
        keys = store_keys(self._environment.settings)
        if not keys["access_key_id"] or not keys["secret_access_key"]:
            return NO_ACCESS
        places = {store_url(uri) for uri in (metadata, common_location(table)) if uri}
        return StorageAccess(self._config(keys), sorted(places))

    def _of_role(
        self, role: str, state: EnvironmentState, table: Table, metadata: str, caller: Caller
    ) -> StorageAccess:
        folder = table_folder(table)
        if folder is None or not is_s3(folder):
            return NO_ACCESS
        if not all(caller.grants.allow(state.name, name) for name in _tables_in(folder, table, state.snapshot)):
            _log.warning(
                "%s gets no credentials for %s: objects of other tables are in its folder", caller.user, folder
            )
            return NO_ACCESS
        places = sorted({folder, *([f"{metadata}/"] if is_s3(metadata) else [])})
        policy = session_policy(places, role.split(":")[1])
        session = self._session(role, policy, caller.user)
        keys = {
            "access_key_id": session["AccessKeyId"],
            "secret_access_key": session["SecretAccessKey"],
            "session_token": session["SessionToken"],
        }
        expiry = {"s3.session-token-expires-at-ms": str(int(session["Expiration"].timestamp() * 1000))}
        return StorageAccess({**self._config(keys), **expiry}, places)

    def _session(self, role: str, policy: str, user: str) -> Mapping[str, Any]:
        """Return the credentials of a session, which may have served another request."""
        key = (policy, user)
        with self._lock:
            kept = self._sessions.get(key)
        if kept is not None and kept["Expiration"] - datetime.now(UTC) > _LEAST_LIFE:
            return kept
        session = self._assume(role, policy, user)
        with self._lock:
            self._sessions[key] = session
            self._sessions.move_to_end(key)
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def _assume(self, role: str, policy: str, user: str) -> Mapping[str, Any]:
        settings = self._environment.settings
        keys = store_keys(settings)
        client = aws_client(
            "sts",
            settings.region,
            endpoint_url=settings.endpoint_url,
            aws_access_key_id=keys["access_key_id"],
            aws_secret_access_key=keys["secret_access_key"],
            aws_session_token=keys["session_token"],
        )
        with needs("aws", "AWS's sts"):
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # of the extra
        name = _NOT_IN_NAME.sub("-", f"dagfusion-{user}")[:_SESSION_NAME]
        try:
            assumed = client.assume_role(
                RoleArn=role, RoleSessionName=name, Policy=policy, DurationSeconds=int(_LIFE.total_seconds())
            )
        except (BotoCoreError, ClientError) as error:
            raise SettingsError(
                f"the role {role} of iceberg_credentials cannot be assumed: {error}. The role's trust policy must allow"
                " sts:AssumeRole for the role or user of the service"
            ) from error
        finally:
            client.close()
        credentials: Mapping[str, Any] = assumed["Credentials"]
        return credentials

    def _config(self, keys: Mapping[str, str | None]) -> dict[str, str]:
        settings = self._environment.settings
        found = {
            "s3.access-key-id": keys["access_key_id"],
            "s3.secret-access-key": keys["secret_access_key"],
            "s3.session-token": keys["session_token"],
            "s3.endpoint": settings.endpoint_url,
            "s3.path-style-access": "true" if settings.endpoint_url else None,
            "s3.region": settings.region,
            "client.region": settings.region,
        }
        return {name: value for name, value in found.items() if value}


def _tables_in(folder: str, table: Table, snapshot: Snapshot) -> Iterator[TableName]:
    """Yield the other tables that have, or may have, objects in the folder of a table."""
    for name, other in snapshot.tables.items():
        inner = table_folder(other)
        if inner is not None and inner.startswith(folder):
            yield name
    for key in snapshot.asset_states:  # also those whose tables have errors, and so no files
        if key[: len(table.asset_key)] == table.asset_key:
            yield table_name(snapshot.environment, key)


def session_policy(folders: Sequence[str], partition: str = "aws") -> str:
    """Return a policy that allows to read the objects in some folders, and nothing else.

    Args:
        folders: `s3://` URIs that end with a slash.
        partition: AWS's, such as `aws` or `aws-us-gov`.
    """
    resources = []
    for folder in folders:
        _, bucket = store_parts(store_url(folder))
        resources.append(f"arn:{partition}:s3:::{bucket}/{_WILDCARD.sub(_escaped, object_path(folder))}*")
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resources}
    return orjson.dumps({"Version": "2012-10-17", "Statement": [statement]}).decode()


def _escaped(found: "re.Match[str]") -> str:
    return f"${{{found[0]}}}"


# A table that did not change is the same object.
_folders: WeakKeyDictionary[Table, str] = WeakKeyDictionary()


def table_folder(table: Table) -> str | None:
    """Return the URI of the folder with all files of a table and a slash at its end; None for a table without files."""
    if (known := _folders.get(table)) is not None:
        return known
    location = common_location(table)
    if location is None:
        return None
    if not location.endswith("/"):  # one file, which the next run may replace by one of another name
        names = table.partition_schema.names
        parent, found, _ = location.partition(f"/{names[0]}=") if names else (location, "", "")
        location = f"{parent if found else location.rpartition('/')[0]}/"
    _folders[table] = location
    return location
