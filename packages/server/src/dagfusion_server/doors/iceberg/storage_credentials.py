"""The S3 credentials that clients of the Iceberg catalog get: none, the service's own keys, or those of an IAM role.

A role is assumed for each table and user, with a session policy that allows only to read the table's own folder, or its
only object, and the folder of its metadata. AWS allows what both this policy and the role's own policies allow.
"""

import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from dagfusion_client.errors import SettingsError, needs
from dagfusion_client.secrets_manager import aws_client
from dagfusion_contract.layout import escape
from dagfusion_contract.naming import TableName, table_name
from dagfusion_contract.uri import is_s3, object_path, store_parts, store_url
from dagfusion_query import service_settings
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.catalog.model import Snapshot, Table, common_location
from dagfusion_query.catalog.replacing_row_groups import row_groups_in_store
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.object_store import store_keys
from dagfusion_server.environments import EnvironmentState

_log = logging.getLogger(__name__)
_LIFE = timedelta(hours=1)  # the longest session if a role assumes another role
_LEAST_LIFE = timedelta(minutes=15)  # the least time that a client gets for its scan
_MAX_SESSIONS = 1000
_SESSION_NAME = 64  # characters
_NOT_IN_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)
_WILDCARD = re.compile(r"[*?$]")


@dataclass(frozen=True)
class StorageAccess:
    """The settings with which a client reads a table's objects.

    Attributes:
        config: The settings by their names in the protocol; empty if the client must use its own credentials.
        places: The prefixes of the URIs for which the settings are.
    """

    config: Mapping[str, str] = field(repr=False)
    places: Sequence[str]

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The settings in the protocol's form: one element for each URI prefix."""
        return [{"prefix": place, "config": self.config} for place in self.places]


NO_ACCESS = StorageAccess({}, ())


class StorageCredentials:
    """The credentials of one environment. Thread-safe.

    Args:
        environment: The environment, with the service's keys and the setting of the clients' credentials.
        sts_endpoint_url: The endpoint of STS; if None, the environment's.
    """

    def __init__(self, environment: EnvironmentConfig, sts_endpoint_url: str | None = None) -> None:
        self._environment, self._sts_endpoint_url = environment, sts_endpoint_url
        self._sessions: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def access(self, state: EnvironmentState, table: Table, metadata: str, caller: Caller) -> StorageAccess:
        """Return the access to the objects of a table. May call AWS.

        Args:
            state: The environment's tables.
            table: One of them.
            metadata: The URI of the folder of its metadata.
            caller: The user who gets the access.

        Raises:
            SettingsError: The role cannot be assumed.
            MissingExtraError: The extra `aws` is not installed.
            SecretUnavailableError: The service's keys are in a secret that cannot be read.
        """
        match self._environment.own.iceberg_credentials:
            case service_settings.NO_CREDENTIALS:
                return NO_ACCESS
            case service_settings.OWN_KEYS:
                return self._own(table, metadata)
            case role:
                return self._of_role(role, state, table, metadata, caller)

    def _own(self, table: Table, metadata: str) -> StorageAccess:
        """Return the service's keys. They can read all of its buckets, regardless of the caller's grants."""
        keys = store_keys(self._environment.settings)
        if not keys["access_key_id"] or not keys["secret_access_key"]:
            return NO_ACCESS
        places = {store_url(uri) for uri in (metadata, common_location(table)) if uri}
        return StorageAccess(self._config(keys), sorted(places))

    def _of_role(
        self, role: str, state: EnvironmentState, table: Table, metadata: str, caller: Caller
    ) -> StorageAccess:
        place = table_place(table)
        if place is None:
            return NO_ACCESS
        folders = {place}
        if Grants(self._environment.own.iceberg_consolidated).allow(state.name, table.name):
            large = large_object_places(table)
            if large is None:
                _log.warning("%s gets no credentials for %s, whose large objects are elsewhere", caller.user, place)
                return NO_ACCESS
            folders |= large
        if not all(caller.grants.allow(state.name, name) for name in _others_in(folders, table, state.snapshot)):
            _log.warning("%s gets no credentials for %s, which has objects of other tables", caller.user, place)
            return NO_ACCESS
        places = sorted({*folders, *([f"{metadata}/"] if is_s3(metadata) else [])})
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
            endpoint_url=self._sts_endpoint_url or settings.endpoint_url,
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


def _others_in(places: Collection[str], table: Table, snapshot: Snapshot) -> Iterator[TableName]:
    """Yield the other tables that have objects below one of the URIs, or may get some."""
    for key, other in snapshot.asset_states.items():
        if key != table.asset_key:
            is_inside = key[: len(table.asset_key)] == table.asset_key  # its folder is in the table's folder
            uris = [*(segment.rows["uri"] for segment in other.segments), other.consolidated["uri"]]
            if is_inside or any(pc.any(pc.starts_with(uri, place)).as_py() for uri in uris for place in places):
                yield table_name(snapshot.environment, key)


def session_policy(places: Sequence[str], partition: str = "aws") -> str:
    """Return a policy that allows reading some objects, and nothing else.

    Args:
        places: `s3://` URIs of objects, and of folders with a slash at their end.
        partition: AWS's, such as `aws` or `aws-us-gov`.
    """
    resources = []
    for place in places:
        _, bucket = store_parts(store_url(place))
        path = _WILDCARD.sub(lambda found: f"${{{found[0]}}}", object_path(place))
        resources.append(f"arn:{partition}:s3:::{bucket}/{path}{'*' if place.endswith('/') else ''}")
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resources}
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [statement]}
    )  # in ASCII: STS refuses most other characters


def table_place(table: Table) -> str | None:
    """Return the URI of a table's own folder, with a slash at its end, or of its only object.

    Returns:
        None for a table without objects in S3, and for one whose objects are not all in a folder that is named after
        its asset.
    """
    location = common_location(table)
    if location is None or not is_s3(location):
        return None
    names = table.partition_schema.names
    parent, found, _ = location.partition(f"/{names[0]}=") if names else (location, "", "")
    folder = f"{parent}/" if found else location
    if folder.endswith(_own_folders(table)):
        return folder
    return None if location.endswith("/") else location


def large_object_places(table: Table) -> set[str] | None:
    """Return the URIs of the folders of a table's large objects, with a slash at their end.

    Returns:
        None if one of them is not named after the table's asset.
    """
    uris = set(row_groups_in_store(table)["uri"].to_pylist())
    folders = {f"{uri.rpartition('/')[0]}/" for uri in uris}
    return folders if all(folder.endswith(_own_folders(table)) for folder in folders) else None


def _own_folders(table: Table) -> tuple[str, ...]:
    own = {"/".join(table.asset_key), "/".join(map(escape, table.asset_key))}
    return tuple(f"/{path}/" for path in own)
