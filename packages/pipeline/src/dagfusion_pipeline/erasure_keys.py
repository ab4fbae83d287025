"""The file of the keys of an erasure."""

import codecs
from pathlib import Path

from dagfusion_contract.uri import is_s3
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError
from dagfusion_pipeline.maintenance import Manager


def read_keys(place: str, manager: Manager) -> list[str]:
    """Read the keys, one on each line, from a file or from an object of the manager's bucket. Spaces are of the key.

    Raises:
        ConfigurationError: There is no such file, it is outside of the bucket, no UTF-8, or it has no keys.
        MissingObjectError: There is no such object.
        StoreError: The object could not be read.
    """
    if is_s3(place):
        root = manager.object_store.uri("")
        if not place.startswith(root):
            raise ConfigurationError(f"keys_file must be a local file or an object below {root}; got {place!r}")
        (found,) = manager.object_store.read_many([place.removeprefix(root)], 1)
        if found is None:
            raise MissingObjectError(f"there is no object {place}: upload the keys first")
        content = bytes(found)
    else:
        try:
            content = Path(place).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the keys cannot be read from {place!r}: {error.strerror}") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    keys = [_text(line.removesuffix(b"\r"), place, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not keys:
        raise ConfigurationError(f"{place!r} has no keys: write one on each line")
    return keys


def _text(line: bytes, place: str, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"line {number} of {place!r} is not UTF-8: save the keys as UTF-8") from None
