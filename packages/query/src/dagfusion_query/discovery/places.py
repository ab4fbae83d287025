"""Where an object is that another IO manager's metadata names, and the partition columns of its path. Pure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from dagfusion_contract.layout import HIVE_NULL
from dagfusion_query.errors import UndiscoverableError

_S3 = ("s3", "s3a", "s3n")
_SHOWN = 300


@dataclass(frozen=True)
class Place:
    """An object or a folder in a store.

    Attributes:
        store: `s3://bucket/`, or `file:///`.
        key: The object's key, or the path without its leading slash; ends in a slash where only a folder can be meant.
    """

    store: str
    key: str

    @property
    def uri(self) -> str:
        """The URI as a record has it: nothing is escaped beyond what the key itself contains."""
        return f"{self.store}{self.key}"

    @property
    def folder(self) -> "Place":
        """The folder of this name."""
        return self if not self.key or self.key.endswith("/") else Place(self.store, f"{self.key}/")

    @property
    def is_folder(self) -> bool:
        """Whether only a folder can be meant."""
        return self.folder == self


def places(text: str, bucket: str | None = None) -> list[Place]:
    """Return the places that a text can mean, the likeliest first.

    Args:
        text: `s3://bucket/key`, `s3a://...`, `file:///path` or an absolute path. A key that holds `%` is meant as it
            is, and as an escaped one where there is no such object.
        bucket: The one bucket that it may be in; None allows any, and local files.

    Raises:
        UndiscoverableError: It names no place, or one that may not be read.
    """
    raw = _place(text)
    if bucket is not None and raw.store != f"s3://{bucket}/":
        raise UndiscoverableError(
            f"it names {shown(raw.uri)}, which is outside of this environment's bucket: put the object there, or "
            "change s3_bucket in the service's configuration"
        )
    plain = Place(raw.store, unquote(raw.key))
    return [raw] if plain == raw else [raw, plain]


def shown(text: str) -> str:
    """Return a text from an event, cut to what a message can hold."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _place(text: str) -> Place:
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if separator and scheme in _S3:
        bucket, _, key = rest.partition("/")
        if not bucket or not key.strip("/") or "@" in bucket:
            raise UndiscoverableError("its S3 URI must read s3://bucket/key, and has no key, no bucket, or a password")
        return Place(f"s3://{bucket}/", key)
    if text.lower().startswith("file:/"):
        path = rest.removeprefix("localhost") if separator else text[len("file:") :]
        if path.startswith("/"):
            return _local(path)
    if text.startswith("/"):
        return _local(text)
    if separator and scheme.isalnum():
        raise UndiscoverableError(f"it names a {scheme}:// URL, and only s3:// and local files can be read")
    raise UndiscoverableError(
        f"it names {shown(text)}, which is no absolute path and no s3:// URI: log the whole path or URI in the metadata"
    )


def _local(path: str) -> Place:
    normal = os.path.normpath(path).lstrip("/")
    if not normal:
        raise UndiscoverableError("it names the root folder")
    return Place("file:///", f"{normal}/" if path.endswith("/") else normal)


Columns = tuple[tuple[str, str | None], ...]

PARTITION_KEY = "partition_key"  # the column's name where the dimension has none


def event_columns(partition_key: str | None, dimensions: Sequence[tuple[str, str]], key: str) -> Columns:
    """Return the partition columns that an event tells.

    All of them are strings: the event has the values as text, and readers of Hive folders disagree on their types.

    Args:
        partition_key: Dagster's; the values of several dimensions are joined by `|`, in the order of their names.
        dimensions: Name and value of each dimension, where the event tells.
        key: Of the object or folder. Its `name=value` segments name the dimensions where the event does not, and order
            them where it does.

    Returns:
        Names and values in path order; none for an unpartitioned materialization; `partition_key` where no name is
        known.
    """
    if partition_key is None:
        return ()
    segments = hive_segments(key)
    if dimensions:
        order = [name for name, _ in segments]
        if {name for name, _ in dimensions} <= set(order):
            return tuple(sorted(dimensions, key=lambda column: order.index(column[0])))
        return tuple(dimensions)
    whole = [segment for segment in segments if segment[1] == partition_key]
    if whole:
        return (whole[-1],)
    values = partition_key.split("|")
    found = tuple(segment for segment in segments if segment[1] in values)
    if [value for _, value in sorted(found)] == values and len(values) > 1:
        return found
    return ((PARTITION_KEY, partition_key),)


def hive_segments(key: str) -> Columns:
    """Return the `name=value` folders of a key, outermost first, each name once."""
    found: dict[str, str | None] = {}
    for segment in key.split("/")[:-1]:
        name, equals, value = segment.partition("=")
        if name and equals:
            found[unquote(name)] = None if value == HIVE_NULL else unquote(value)
    return tuple(found.items())
