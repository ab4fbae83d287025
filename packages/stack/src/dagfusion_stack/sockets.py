"""Private folders for Unix sockets, whose paths must be short."""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from dagfusion_stack.errors import HomeError

# A socket's path has 103 bytes on macOS, 107 on Linux, and PostgreSQL appends "/.s.PGSQL.5432.lock".
FOLDER_LIMIT_BYTES = 84
# Without the characters that libpq or PostgreSQL quote: libpq reads commas in a host as a list, PostgreSQL in its
# socket folders too, and both have their own quoting.
UNQUOTED_PATH = re.compile(r"[A-Za-z0-9_./+@-]+")


def private_folder(folder: Path, *, owner: int) -> Path:
    """Make a folder for sockets that only `owner` (a user id) can enter, always the same for one `folder`.

    It lies in `folder`, or in the system's temporary folder where that path is too long or not plain.

    Raises:
        HomeError: The temporary folder belongs to another user.
    """
    sockets = _location(folder)
    sockets.mkdir(mode=0o700, exist_ok=True)
    found = sockets.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.geteuid()}:
        raise HomeError(f"the folder for sockets {sockets} belongs to another user: remove it")
    sockets.chmod(0o700)
    if found.st_uid != owner:
        os.chown(sockets, owner, owner)
    return sockets


def remove_private_folder(folder: Path) -> None:
    """Remove what `private_folder` made for `folder`, with the sockets in it."""
    shutil.rmtree(_location(folder), ignore_errors=True)


def _location(folder: Path) -> Path:
    sockets = folder / "socket"
    if len(os.fsencode(sockets)) <= FOLDER_LIMIT_BYTES and UNQUOTED_PATH.fullmatch(str(sockets)):
        return sockets
    return _temporary_root() / f"dagfusion-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def _temporary_root() -> Path:
    root = Path(tempfile.gettempdir()).resolve()
    return root if len(os.fsencode(root)) < FOLDER_LIMIT_BYTES // 2 else Path("/tmp")  # noqa: S108
