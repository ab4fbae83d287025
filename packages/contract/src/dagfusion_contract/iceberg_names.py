"""Names of the objects of Iceberg metadata. The query service writes the objects, and the vacuum deletes old ones.

A table has a folder. `metadata.json` names a manifest list, and that names manifests; both do so in plain bytes.
"""

import re
from collections.abc import Collection, Iterable

_DIGEST = "[0-9a-f]{32}"
_NAMED = re.compile(f"{_DIGEST}-(?:list|manifest)\\.avro".encode())
_LARGE = re.compile(rb"\n((?:s3|file)://[^\n]+)\n")
_SUFFIX = ".metadata.json"
REFUSED = "refused"  # the folder in a table's folder in which engines leave files of writes that are refused
_METADATA = re.compile(f"(\\d+)-{_DIGEST}\\.metadata\\.json")
_PAST = re.compile(f"\\d+-{_DIGEST}-past\\.metadata\\.json")


def manifest_name(digest: str) -> str:
    """Return the name of a manifest with this digest of its content, 32 hexadecimal digits."""
    return f"{digest}-manifest.avro"


def manifest_list_name(digest: str) -> str:
    """Return the name of a manifest list."""
    return f"{digest}-list.avro"


def metadata_name(sequence: int, digest: str) -> str:
    """Return the name of the `metadata.json` of a table as of an event."""
    return f"{sequence}-{digest}.metadata.json"


def past_metadata_name(sequence: int, digest: str) -> str:
    """Return the name of the `metadata.json` of a table as of a past event, which a statement reads."""
    return f"{sequence}-{digest}-past{_SUFFIX}"


def is_past_metadata(name: str) -> bool:
    """Return True for a name of `past_metadata_name`.

    Example:
        >>> is_past_metadata(past_metadata_name(7, "0" * 32)), is_past_metadata(metadata_name(7, "0" * 32))
        (True, False)
    """
    return _PAST.fullmatch(name) is not None


def event_of_metadata(name: str) -> int | None:
    """Return the event of a `metadata.json` with this name; None for another name.

    Example:
        >>> event_of_metadata(metadata_name(7, "0" * 32)), event_of_metadata(manifest_name("0" * 32))
        (7, None)
    """
    found = _METADATA.fullmatch(name)
    return None if found is None else int(found[1])


def version_of_metadata(uri: str) -> str:
    """Return the version that a `metadata.json` at this URI has: its name without `.metadata.json`.

    Example:
        >>> version_of_metadata("s3://lake/_iceberg/a/b/" + metadata_name(7, "0" * 32))
        '7-00000000000000000000000000000000'
    """
    return uri.rpartition("/")[2].removesuffix(_SUFFIX)


def metadata_of_version(version: str) -> str | None:
    """Return the name of the `metadata.json` of a version; None if the text is no version."""
    name = f"{version}{_SUFFIX}"
    return name if is_metadata(name) else None


def is_metadata(name: str) -> bool:
    """Return True for the name of a `metadata.json`."""
    return event_of_metadata(name) is not None or is_past_metadata(name)


def is_iceberg_object(name: str) -> bool:
    """Return True for a name of this module."""
    return is_metadata(name) or _NAMED.fullmatch(name.encode()) is not None


def is_refused_object(key: str, tables: Collection[str]) -> bool:
    """Return True for the key of an object of a refused write.

    Args:
        key: The key.
        tables: The keys of the folders of tables, which have a `metadata.json`.

    Example:
        >>> is_refused_object("_iceberg/a/b/refused/x=1/0.parquet", {"_iceberg/a/b"})
        True
        >>> is_refused_object("_iceberg/a/refused/1.parquet", {"_iceberg/a/refused"})  # of a table of this name
        False
    """
    *folders, name = key.split("/")
    places = [number for number, folder in enumerate(folders) if folder == REFUSED]
    return not is_iceberg_object(name) and any("/".join(folders[:place]) in tables for place in places)


def large_objects_text(uris: Iterable[str]) -> str:
    """Return the text in which a manifest list names large objects, for `named_large_objects`."""
    return "".join(f"\n{uri}\n" for uri in uris)


def named_large_objects(content: bytes) -> set[str]:
    """Return the URIs of the large objects that a manifest list names.

    Example:
        >>> named_large_objects(b"..." + large_objects_text(["s3://lake/_consolidated/orders/data-1.parquet"]).encode())
        {'s3://lake/_consolidated/orders/data-1.parquet'}
    """
    return {found.decode() for found in _LARGE.findall(content)}


def named_objects(content: bytes) -> set[str]:
    """Return the names of the manifest lists and manifests that a `metadata.json` or a manifest list names.

    Example:
        >>> named_objects(b'{"manifest-list": "s3://lake/_iceberg/a/b/' + b"0" * 32 + b'-list.avro"}')
        {'00000000000000000000000000000000-list.avro'}
    """
    return {found.decode() for found in _NAMED.findall(content)}
