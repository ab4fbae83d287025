"""Finds the URI or path in the metadata of an event without a record. Pure."""

from collections.abc import Mapping, Sequence

from dagfusion_contract.uri import S3_SCHEMES

METADATA_KEYS = ("dagster/uri", "uri", "path", "s3_path")
_PREFIXES = (*(f"{scheme}://" for scheme in S3_SCHEMES), "file:/", "/")


def uri_in_metadata(texts: Mapping[str, str], keys: Sequence[str] = METADATA_KEYS) -> str | None:
    """Return the first value that is a URI of an object store or a file, or an absolute path; else the first value.

    Args:
        texts: The event's metadata entries of the types text, URL and path, by label.
        keys: The labels that are read, in this order.

    >>> uri_in_metadata({"s3_path": "https://console/lake", "uri": "s3://lake/a.parquet"})
    's3://lake/a.parquet'
    """
    found = [text for key in keys if (text := texts.get(key, "").strip())]
    return next((text for text in found if text.startswith(_PREFIXES)), next(iter(found), None))
