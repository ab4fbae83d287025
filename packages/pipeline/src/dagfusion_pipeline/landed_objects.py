"""The objects under a HIVE prefix by partition: which folder is of which partition, and which are Parquet."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dagfusion_contract.errors import LayoutError
from dagfusion_contract.layout import HIVE_NULL, parse_hive_segment
from dagfusion_pipeline.store import StoredObject

_SUFFIX = ".parquet"
_HIDDEN = ("_", ".")  # Hive and Spark pass over such names


@dataclass
class Folder:
    """The Parquet objects of one partition.

    Attributes:
        path: The folder's key, without a slash at its end.
        dimension_keys: One for each partition column, in path order.
        objects: All Parquet below the folder.
        last_key: The key that was listed last.
    """

    path: str
    dimension_keys: tuple[str, ...]
    last_key: str
    objects: list[StoredObject] = field(default_factory=list)

    @property
    def only(self) -> StoredObject | None:
        """The object, if the folder has one, directly in it."""
        if len(self.objects) == 1 and self.objects[0].key.rpartition("/")[0] == self.path:
            return self.objects[0]
        return None

    @property
    def size_bytes(self) -> int:
        """Of all objects."""
        return sum(one.size_bytes for one in self.objects)

    def fingerprint(self) -> str:
        """Return a hash of the objects' keys, sizes and ETags, which differs when one of them is written again."""
        listed = sorted((one.key, one.size_bytes, one.etag or one.modified.isoformat()) for one in self.objects)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@dataclass(frozen=True)
class Listing:
    """Whole folders, and what is in none of them.

    Attributes:
        folders: The folders with Parquet, in the order of the listing.
        unmatched_keys: Keys that are not below a folder for each partition column, without those that Hive and Spark
            pass over.
        after: Where the next listing goes on; None at the end of the prefix.
    """

    folders: Sequence[Folder]
    unmatched_keys: Sequence[str]
    after: str | None


def list_folders(objects: Iterable[StoredObject], prefix: str, columns: Sequence[str], limit: int) -> Listing:
    """Group a listing by partition, up to the end of the folder in which it reaches the limit.

    Args:
        objects: In the order in which the store lists them: all of one folder together.
        prefix: What all keys begin with, before a slash.
        columns: The partition columns in path order; none for an unpartitioned asset.
        limit: The maximum number of objects.
    """
    folders: dict[str, Folder] = {}
    unmatched_keys: list[str] = []
    last_key, count = None, 0
    for found in objects:
        parts = found.key.removeprefix(f"{prefix}/").split("/")
        path = "/".join([prefix, *parts[: len(columns)]])
        keys = _dimension_keys(parts, columns)
        if count >= limit and path not in folders:
            return Listing(_with_objects(folders), unmatched_keys, last_key)
        count, last_key = count + 1, found.key
        if keys is None:
            unmatched_keys += [] if parts[0].startswith(_HIDDEN) else [found.key]
            continue
        folder = folders.setdefault(path, Folder(path, keys, found.key))
        folder.last_key = found.key
        if parts[-1].endswith(_SUFFIX) and not any(part.startswith(_HIDDEN) for part in parts[len(columns) :]):
            folder.objects.append(found)
    return Listing(_with_objects(folders), unmatched_keys, None)


def _with_objects(folders: dict[str, Folder]) -> list[Folder]:
    return [folder for folder in folders.values() if folder.objects]


def _dimension_keys(parts: Sequence[str], columns: Sequence[str]) -> tuple[str, ...] | None:
    if len(parts) <= len(columns):
        return None
    try:
        pairs = [parse_hive_segment(part) for part in parts[: len(columns)]]
    except LayoutError:
        return None
    if [name for name, _ in pairs] != [*columns]:
        return None
    return tuple(HIVE_NULL if value is None else value for _, value in pairs)
