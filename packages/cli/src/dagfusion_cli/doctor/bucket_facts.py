"""Reads the facts about buckets and their objects that checks and costs need, by boto3.

Objects are listed by the folders of tables, and compared with the event log.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from dagfusion_client.secrets_manager import aws_client
from dagfusion_contract.errors import LayoutError
from dagfusion_contract.layout import file_key
from dagfusion_contract.uri import bucket_url, is_s3, object_path, store_parts, store_url
from dagfusion_query.catalog.model import Snapshot, Table, common_location
from dagfusion_query.object_store import store_keys
from dagfusion_query.scan.archived_files import archive_rule, split_archived
from dagfusion_query.settings import Settings

_NOT_SET = frozenset(
    {
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchLifecycleConfiguration",
    }
)
# The check that needs an operation.
_OPERATIONS = {
    "get_public_access_block": "bucket_public",
    "get_bucket_encryption": "bucket_unencrypted",
    "get_bucket_versioning": "bucket_unversioned",
    "get_bucket_lifecycle_configuration": "bucket_without_lifecycle",
    "get_bucket_location": "bucket_region",
}
ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_SUFFIX = ".parquet"
_TRIED_FOLDERS = 10  # of a bucket


@dataclass(frozen=True)
class BucketFacts:
    """The facts that S3 reports about a bucket.

    Attributes:
        name: The name of the bucket.
        problem: Why it cannot be listed; None if it can, or if some folder of it may be.
        region: Its region.
        public_access_block: The four settings; those that are not there are off.
        encryption: The default encryption; None without one.
        versioning: `Enabled`, `Suspended`, or None if it never had versions.
        lifecycle: Its rules.
        skew_s: How far the clock of this machine is ahead of the server's, in seconds.
        unknown: Why facts cannot be read, by the name of the check.
    """

    name: str
    problem: str | None = None
    region: str | None = None
    public_access_block: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    encryption: str | None = None
    versioning: str | None = None
    lifecycle: Sequence[Mapping[str, Any]] = ()
    skew_s: float = 0.0
    unknown: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def url(self) -> str:
        """The URL of the bucket."""
        return bucket_url(self.name).rstrip("/")


def s3_client(settings: Settings) -> Any:
    """Return boto3's client of an environment's object store.

    Raises:
        MissingExtraError: The extra `aws` is not installed.
    """
    keys = {f"aws_{name}": value for name, value in store_keys(settings).items() if value is not None}
    return aws_client("s3", settings.region, endpoint_url=settings.endpoint_url, **keys)


def _listed_in_part(client: Any, bucket: str, folders: Sequence[str]) -> tuple[Mapping[str, Any], bool]:
    """Return the answer of the first folder that may be listed, and True; else that of the last one, and False."""
    from botocore.exceptions import ClientError  # noqa: PLC0415  # with the client, it is installed

    answer: Mapping[str, Any] = {}
    for folder in folders[:_TRIED_FOLDERS] or ("",):
        try:
            return client.list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1), True
        except ClientError as error:
            if _reason(error) != "AccessDenied":
                raise
            answer = error.response
    return answer, False


def read_bucket_facts(
    client: Any, bucket: str, folders: Sequence[str] = (), clock: Callable[[], float] = time.time
) -> BucketFacts:
    """Return the facts of a bucket; what its user may not ask for is in `unknown`.

    Args:
        client: The client of boto3.
        bucket: The name.
        folders: What the keys of tables begin with, because a role may be limited to listing folders of tables.
        clock: The clock of this machine, in seconds since 1970.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with the client, it is installed

    unknown: dict[str, str] = {}
    try:
        answer, is_listed = _listed_in_part(client, bucket, folders)
    except (ClientError, BotoCoreError) as error:
        return BucketFacts(bucket, problem=_reason(error))
    is_tried_in_part = len(folders) > _TRIED_FOLDERS
    if not is_listed:
        what = "the folders of its tables" if folders else "the whole bucket, and no table is known"
        what = f"the first {_TRIED_FOLDERS} folders of its tables, others were not tried" if is_tried_in_part else what
        unknown["bucket_unreachable"] = f"list_objects_v2: AccessDenied for {what}"
    skew_s = _skew_s(answer["ResponseMetadata"].get("HTTPHeaders", {}), clock())
    found: dict[str, Mapping[str, Any]] = {}
    for operation, check in _OPERATIONS.items():
        try:
            found[operation] = getattr(client, operation)(Bucket=bucket)
        except (ClientError, BotoCoreError) as error:
            if _reason(error) not in _NOT_SET:
                unknown.setdefault(check, f"{operation}: {_reason(error)}")
    if not is_listed and not found and not is_tried_in_part:
        return BucketFacts(bucket, problem="AccessDenied")
    if "bucket_without_lifecycle" in unknown:
        unknown["bucket_keeps_parts"] = unknown["bucket_without_lifecycle"]
    rules = found.get("get_bucket_encryption", {}).get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    return BucketFacts(
        bucket,
        region=found["get_bucket_location"].get("LocationConstraint") or "us-east-1"
        if "get_bucket_location" in found
        else None,
        public_access_block=found.get("get_public_access_block", {}).get("PublicAccessBlockConfiguration", {}),
        encryption=next((default["SSEAlgorithm"] for default in defaults if "SSEAlgorithm" in default), None),
        versioning=found.get("get_bucket_versioning", {}).get("Status"),
        lifecycle=tuple(found.get("get_bucket_lifecycle_configuration", {}).get("Rules", ())),
        skew_s=skew_s,
        unknown=MappingProxyType(unknown),
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__)


def _skew_s(headers: Mapping[str, str], now_s: float) -> float:
    date = headers.get("date")
    return 0.0 if date is None else now_s - parsedate_to_datetime(date).timestamp()


@dataclass(frozen=True)
class ListedObject:
    """An object as a LIST reports it.

    Attributes:
        uri: `s3://bucket/key`.
        etag: Without quotes.
        modified: Its last modification.
        storage_class: Such as `STANDARD`.
    """

    uri: str
    size_bytes: int
    etag: str
    modified: datetime
    storage_class: str


@dataclass(frozen=True)
class Listing:
    """The objects of a table's folders.

    Attributes:
        objects: By URI.
        is_complete: False if the limit ended the listing.
    """

    objects: Mapping[str, ListedObject]
    is_complete: bool


@dataclass(frozen=True)
class Comparison:
    """The differences between the objects of a table and its events, by URI.

    Attributes:
        missing: Named by an event, and not in the bucket.
        changed: Objects whose size or etag differs from that in their event.
        orphaned: In the folder of the table, named by no event that counts, and old.
        archived: In a storage class that queries cannot read.
    """

    missing: Sequence[str] = field(default=())
    changed: Sequence[str] = field(default=())
    orphaned: Sequence[str] = field(default=())
    archived: Sequence[str] = field(default=())


def folders(table: Table) -> list[str]:
    """Return the URIs that the objects of a table begin with: `s3://bucket/prefix/Silver/orders`.

    They have no slash at the end. A table whose files are not named as the IO managers name them has the folder that
    holds all of them.
    """
    try:
        own = file_key("", table.asset_key, None, None).removesuffix(_SUFFIX)
    except LayoutError:
        own = ""
    found = set[str]()
    for uri in table.files["uri"].to_pylist():
        before, mark, _ = uri.partition(f"/{own}")
        if not (own and mark):
            folder = common_location(table) or ""
            return [folder.rstrip("/")] if is_s3(folder) else []
        found.add(f"{before}/{own}")
    return sorted(folder for folder in found if is_s3(folder))


def named_objects(snapshot: Snapshot) -> frozenset[str]:
    """Return the URIs of the objects of all tables."""
    return frozenset(uri for table in snapshot.tables.values() for uri in table.files["uri"].to_pylist())


def list_objects(client: Any, table: Table, limit: int) -> Listing:
    """List the objects of a table, at most `limit` of them.

    Args:
        client: The client of boto3.
        table: From the catalog.
        limit: The most objects.
    """
    found: dict[str, ListedObject] = {}
    for folder in folders(table):
        for listed in _listed(client, folder):
            if len(found) >= limit:
                return Listing(found, is_complete=False)
            found[listed.uri] = listed
    return Listing(found, is_complete=True)


def compare(table: Table, listing: Listing, old: datetime, named: Collection[str]) -> Comparison:
    """Compare a table with a listing of its objects.

    Args:
        table: From the catalog.
        listing: The listing of its folders.
        old: Objects that no event names count as orphaned if they are older.
        named: The URIs of the objects of all tables: the folder of one may be inside that of another.
    """
    files = table.files.select(["uri", "size_bytes", "etag"]).to_pylist()
    file_of = {file["uri"]: file for file in files if is_s3(file["uri"])}
    there = {uri: listing.objects[uri] for uri in file_of if uri in listing.objects}
    changed = [uri for uri, one in there.items() if _differs(one, file_of[uri]["size_bytes"], file_of[uri]["etag"])]
    orphaned = [
        one.uri
        for one in listing.objects.values()
        if one.uri not in named and one.uri.endswith(_SUFFIX) and one.modified < old
    ]
    return Comparison(
        sorted(file_of.keys() - there.keys()) if listing.is_complete else (),
        changed,
        orphaned,
        [uri for uri, one in there.items() if one.storage_class in ARCHIVED],
    )


def in_both(one: Comparison, other: Comparison) -> Comparison:
    """Return what two comparisons agree on: objects that were written in between are in one of them only."""
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Comparison(*([*filter(frozenset(second).__contains__, first)] for first, second in pairs))


def without_left_out(found: Comparison, table: Table, archived_after_days: int, now: datetime) -> Comparison:
    """Return a comparison without archived and expired objects that queries leave out.

    Args:
        found: The comparison.
        table: The table.
        archived_after_days: The setting of its environment; 0 if queries leave out nothing.
        now: The time.
    """
    if not archived_after_days or not (found.archived or found.missing):
        return found
    _, archive = split_archived(table, archive_rule(archived_after_days, now))
    unread = frozenset[str]() if archive is None else frozenset(archive.table.files["uri"].to_pylist())
    missing, archived = ([uri for uri in uris if uri not in unread] for uris in (found.missing, found.archived))
    return replace(found, missing=missing, archived=archived)


def _differs(listed: ListedObject, size_bytes: int, etag: str | None) -> bool:
    return listed.size_bytes != size_bytes or (etag is not None and etag.strip('"') != listed.etag)


def _listed(client: Any, folder: str) -> Iterator[ListedObject]:
    _, bucket = store_parts(store_url(folder))
    prefix = object_path(folder)
    pages: Iterable[Mapping[str, Any]] = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", ()):
            key = str(entry["Key"])
            # The prefix is also that of a table whose name begins with this one's.
            if key == prefix or key.removeprefix(prefix)[:1] in ("/", "-", "."):
                yield ListedObject(
                    f"{bucket_url(bucket)}{key}",
                    entry["Size"],
                    str(entry["ETag"]).strip('"'),
                    entry["LastModified"],
                    entry.get("StorageClass", "STANDARD"),
                )
