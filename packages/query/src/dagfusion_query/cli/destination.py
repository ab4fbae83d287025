"""Where a command's rows go: stdout, or a file that appears when it is whole and whose name may say the format."""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import typer

from dagfusion_query.cli.options import Format
from dagfusion_query.formats import result_format

# What the end of a file's name says.
_FORMATS = {
    ".txt": Format.table,
    **{suffix: Format(form.value) for form in result_format.Format for suffix in form.row.suffixes},
}


def chosen_format(form: Format | None, file: Path | None) -> Format:
    """Return the format that is asked for, or that a file's name says.

    Raises:
        ValueError: The name says none.
    """
    if form is not None:
        return form
    if file is None:
        return Format.table
    if (found := _FORMATS.get(file.suffix.lower())) is None:
        raise ValueError(f"the name of {file} says no format: end it in {', '.join(_FORMATS)}, or give --format")
    return found


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that replaces `path` at the end of the block; an error leaves what was there.

    Raises:
        BadParameter: The file cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        target = path.expanduser().resolve()
        draft = None if _is_special(target) else _draft(target)
        file = target.open("wb") if draft is None else draft.open("wb")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with file:
            yield file
        if draft is not None:
            draft.replace(target)
    except BaseException:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise


def _draft(target: Path) -> Path:
    """Create an empty file beside the target, with the access that the target has or would get."""
    if target.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
    try:
        os.fchmod(handle, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
    finally:
        os.close(handle)
    return Path(name)


def _is_special(target: Path) -> bool:
    """Return True for a pipe or a device, which cannot be replaced."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
