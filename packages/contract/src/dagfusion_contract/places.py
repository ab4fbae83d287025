"""The metadata by which events without a record say what was written. Pure."""

from collections.abc import Mapping, Sequence

from dagfusion_contract.uri import S3_SCHEMES

METADATA_KEYS = ("dagster/uri", "uri", "path", "s3_path")
PLACES = (*(f"{scheme}://" for scheme in S3_SCHEMES), "file:/", "/")


def named_place(texts: Mapping[str, str], keys: Sequence[str] = METADATA_KEYS) -> str | None:
    """Return what an event names: the first that is a place counts, else the first that is there.

    Args:
        texts: The event's metadata that is text, a URL or a path, by its label.
        keys: The labels that may name it.

    >>> named_place({"s3_path": "https://console/lake", "uri": "s3://lake/a.parquet"})
    's3://lake/a.parquet'
    """
    found = [text for key in keys if (text := texts.get(key, "").strip())]
    return next((text for text in found if text.startswith(PLACES)), next(iter(found), None))
