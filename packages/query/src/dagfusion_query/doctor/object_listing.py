"""Lists the objects of tables in their buckets, and compares them with the event log."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dagfusion_contract.errors import LayoutError
from dagfusion_contract.layout import file_key
from dagfusion_query.catalog.model import Snapshot, Table, whereabouts
from dagfusion_query.object_store import object_path, store_parts, store_url

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_SUFFIX = ".parquet"


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
    """How the objects of a table differ from its events, by URI.

    Attributes:
        missing: Named by an event, and not in the bucket.
        changed: Of another size or etag than its event says.
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
            folder = whereabouts(table) or ""
            return [folder.rstrip("/")] if folder.startswith("s3://") else []
        found.add(f"{before}/{own}")
    return sorted(folder for folder in found if folder.startswith("s3://"))


def named_objects(snapshot: Snapshot) -> frozenset[str]:
    """Return the URIs of the objects of all tables."""
    return frozenset(uri for table in snapshot.tables.values() for uri in table.files["uri"].to_pylist())


def list_objects(client: Any, table: Table, limit: int) -> Listing:
    """List the objects of a table, at most `limit` of them.

    Args:
        client: Of boto3.
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
        listing: Of its folders.
        old: Objects that no event names count as orphaned if they are older.
        named: The URIs of the objects of all tables: the folder of one may be inside that of another.
    """
    files = table.files.select(["uri", "size_bytes", "etag"]).to_pylist()
    known = {file["uri"]: file for file in files if file["uri"].startswith("s3://")}
    there = {uri: listing.objects[uri] for uri in known if uri in listing.objects}
    changed = [uri for uri, one in there.items() if _differs(one, known[uri]["size_bytes"], known[uri]["etag"])]
    orphaned = [
        one.uri
        for one in listing.objects.values()
        if one.uri not in named and one.uri.endswith(_SUFFIX) and one.modified < old
    ]
    return Comparison(
        sorted(known.keys() - there.keys()) if listing.is_complete else (),
        changed,
        orphaned,
        [uri for uri, one in there.items() if one.storage_class in ARCHIVED],
    )


def in_both(one: Comparison, other: Comparison) -> Comparison:
    """Return what two comparisons agree on: objects that were written in between are in one of them only."""
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Comparison(*([uri for uri in first if uri in set(second)] for first, second in pairs))


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
                    f"s3://{bucket}/{key}",
                    entry["Size"],
                    str(entry["ETag"]).strip('"'),
                    entry["LastModified"],
                    entry.get("StorageClass", "STANDARD"),
                )
