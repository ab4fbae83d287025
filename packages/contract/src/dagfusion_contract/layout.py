"""Where objects live: asset key and partition to object key, with the HIVE encoding and its inverse. Pure."""

import re
from collections.abc import Sequence

from dagfusion_contract.errors import LayoutError

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
MAX_KEY_BYTES = 1024
CONSOLIDATED = "_consolidated"  # Hive and Spark pass over folders that begin with an underscore

# What Hive's FileUtils.escapePathName escapes, and NUL, which Hive forgets.
_CONTROL_CHARACTERS = [chr(code) for code in range(0x20)]
_ESCAPES = str.maketrans({char: f"%{ord(char):02X}" for char in [*_CONTROL_CHARACTERS, *"\"#%'*/:=?\\{[]^", "\x7f"]})
_ESCAPED = re.compile("%([0-9A-Fa-f]{2})")
_LONGEST_ECHO = 60


def escape(text: str) -> str:
    r"""Escape a text as Hive escapes it in a path.

    >>> escape("a/b=100%")
    'a%2Fb%3D100%25'
    """
    return text.translate(_ESCAPES)


def unescape(text: str) -> str:
    """Undo `escape`: `unescape(escape(text)) == text` for every text.

    >>> unescape("a%2Fb%3D100%25")
    'a/b=100%'
    """
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def hive_segment(column: str, value: str | None) -> str:
    """Return one folder of a HIVE path; null and the empty text share Hive's name for null.

    >>> hive_segment("state", "CA"), hive_segment("state", None)
    ('state=CA', 'state=__HIVE_DEFAULT_PARTITION__')
    """
    return f"{escape(column)}={escape(value) if value else HIVE_NULL}"


def parse_hive_segment(segment: str) -> tuple[str, str | None]:
    """Undo `hive_segment`: the column and its value.

    >>> parse_hive_segment("city=a%2Fb")
    ('city', 'a/b')

    Raises:
        LayoutError: The segment is not `column=value`.
    """
    column, equals, value = segment.partition("=")
    if not (column and equals):
        raise LayoutError(f"a HIVE folder must be column=value; got {segment!r}")
    return unescape(column), None if value == HIVE_NULL else unescape(value)


def file_key(prefix: str, asset_key: Sequence[str], partition: tuple[str, str] | None, run_id: str | None) -> str:
    """Return the object key of `S3ParquetIOManager`: one file, or one file for each partition key.

    Args:
        prefix: What every key begins with; may be empty.
        asset_key: Its components become folders.
        partition: The partition column's name and the partition key; None for an unpartitioned asset.
        run_id: Named in the file's name where every run writes files of its own.

    Raises:
        LayoutError: The key would be empty, longer than S3 allows, or not valid UTF-8.

    >>> file_key("lake", ["Gold", "daily"], ("date", "2024-01-15"), None)
    'lake/Gold/daily/2024-01-15.parquet'
    """
    table = _table(prefix, asset_key)
    name = table if partition is None else f"{table}/{escape(partition[1]) or HIVE_NULL}"
    return _checked(f"{name}{_run_suffix(run_id)}.parquet", asset_key, [partition] if partition else [])


def hive_key(prefix: str, asset_key: Sequence[str], partition: Sequence[tuple[str, str]], run_id: str | None) -> str:
    """Return the object key of `PartitionedS3ParquetIOManager`: one folder for each partition column, in path order.

    Args:
        prefix: What every key begins with; may be empty.
        asset_key: Its components become folders.
        partition: Partition columns and their values as text; none for an unpartitioned asset.
        run_id: Named in the file's name where every run writes files of its own.

    Raises:
        LayoutError: The key would be empty, longer than S3 allows, or not valid UTF-8.

    >>> hive_key("lake", ["Silver", "orgs"], [("state", "CA"), ("date", "2024-01-15")], None)
    'lake/Silver/orgs/state=CA/date=2024-01-15/data.parquet'
    """
    folders = [hive_segment(column, value) for column, value in partition]
    return _checked(
        "/".join([_table(prefix, asset_key), *folders, f"data{_run_suffix(run_id)}.parquet"]), asset_key, partition
    )


def parse_hive_key(prefix: str, asset_key: Sequence[str], key: str) -> list[tuple[str, str | None]]:
    """Undo `hive_key`: the partition columns and values of one of the asset's objects.

    Raises:
        LayoutError: The object is not one of the asset's.
    """
    table = _table(prefix, asset_key)
    if not key.startswith(f"{table}/"):
        raise LayoutError(f"an object of asset {'/'.join(asset_key)} must be under {table}/; got {key!r}")
    return [parse_hive_segment(segment) for segment in key.removeprefix(f"{table}/").split("/")[:-1]]


def consolidated_folder(prefix: str, asset_key: Sequence[str]) -> str:
    """Return the folder of an asset's large objects, which no reader of its table looks into.

    >>> consolidated_folder("lake", ["Silver", "orgs"])
    'lake/_consolidated/Silver/orgs'
    """
    return _table("/".join([*([prefix] if prefix else []), CONSOLIDATED]), asset_key)


def consolidated_key(prefix: str, asset_key: Sequence[str], run_id: str, attempt: str, number: int) -> str:
    """Return the object key of a large object: no other object ever has it.

    Args:
        prefix: What every key begins with; may be empty.
        asset_key: Its components become folders.
        run_id: The id of the run that writes it.
        attempt: Random, because a run may be retried.
        number: The number of the object in the run.

    Raises:
        LayoutError: The key would be empty, longer than S3 allows, or not valid UTF-8.
    """
    name = f"data-{attempt}-{run_id}-{number}.parquet"
    return _checked(f"{consolidated_folder(prefix, asset_key)}/{name}", asset_key, [])


def _table(prefix: str, asset_key: Sequence[str]) -> str:
    if not asset_key or not all(asset_key):
        raise LayoutError(f"an asset key must have components and none of them empty; got {list(asset_key)!r}")
    return "/".join([*([prefix] if prefix else []), *(_component(component) for component in asset_key)])


def _component(text: str) -> str:
    # "." and ".." are ordinary text to Hive, and folders to everything that resolves paths.
    return text.replace(".", "%2E") if text in {".", ".."} else escape(text)


def _run_suffix(run_id: str | None) -> str:
    return f"-{run_id}" if run_id else ""


def _checked(key: str, asset_key: Sequence[str], partition: Sequence[tuple[str, str]]) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        where = _blame(asset_key, partition)
        raise LayoutError(f"{where} must be valid Unicode to become an object key: {error.reason}") from error
    if size > MAX_KEY_BYTES:
        raise LayoutError(
            f"{_blame(asset_key, partition)} makes an object key of {size} bytes; S3 allows {MAX_KEY_BYTES}:"
            " use a shorter value"
        )
    return key


def _blame(asset_key: Sequence[str], partition: Sequence[tuple[str, str]]) -> str:
    asset = "/".join(asset_key)
    if not partition:
        return f"the key of asset {asset!r}"
    column, value = max(partition, key=lambda pair: (not _is_unicode(pair[1]), len(pair[1])))
    shown = value if len(value) <= _LONGEST_ECHO else value[:_LONGEST_ECHO] + "..."
    return f"asset {asset!r}, partition column {column!r}, value {shown!r}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
