"""Local copies of objects: their paths, their verification, and pins that protect them from eviction.

    {folder}/objects/{2 digits}/{30 digits}   an object's bytes, then their SHA-256
                                              or a block of one: some of its bytes at their places and holes elsewhere,
                                              then the places, then the SHA-256 of the places and bytes
    {folder}/pins/{random}                    the copies that one execution needs, while it holds a lock on the file
    {folder}/lock                             held to pin (shared) and to remove (exclusive)

A copy is written under a temporary name and renamed, and its digest is compared before a process uses it for the first
time. So an incomplete or altered copy is never read. The name of a copy is the version of its object, and the range of
a block in it, so it cannot be out of date.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from secrets import token_hex

from dagfusion_query.object_cache.eviction import Eviction, counted
from dagfusion_query.object_cache.parquet_blocks import EXTENTS, Extent
from dagfusion_query.settings import NO_STATE, Settings

_log = logging.getLogger(__name__)
DIGEST_BYTES = hashlib.sha256().digest_size
_PLACES = struct.Struct(f"<{2 * EXTENTS}Q")  # the start and length of each extent of a block
BLOCK_END_BYTES = _PLACES.size + DIGEST_BYTES
KEY_BYTES = 16
_PRIVATE = 0o700
_KNOWN = 1 << 20  # copies that a process remembers to be whole
_CALLED = {"objects": "copies of objects", "results": "results"}  # by their folders' names


def copy_key(*version: str) -> str:
    """Return the name of the copy of one version of an object, 32 hexadecimal digits."""
    return hashlib.blake2b("\0".join(version).encode(), digest_size=KEY_BYTES).hexdigest()


@dataclass(frozen=True)
class TableFetch:
    """The requests of an execution that made copies of the objects of one table, or of blocks of its large objects.

    Attributes:
        table: `schema.table`.
        bytes: What was fetched: objects, blocks, and the footers of objects that are copied by block. A request that
            failed has none. One that was cancelled has all of its bytes, because they may have come.
        began_s: Seconds from the start of the execution to the first request.
        ended_s: Seconds from there to the end of the last one.
    """

    table: str
    requests: int
    bytes: int
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class CopyUse:
    """The local copies that an execution needed: of objects, or of blocks of large objects.

    Attributes:
        found: The number of copies that were there.
        fetched: The number of copies that were made first.
    """

    found: int = 0
    fetched: int = 0


class Copies:
    """A folder of local copies. Thread-safe; processes share it.

    Args:
        folder: Made if it is not there, for its owner only.
        limit_bytes: How much the copies may take together. Those that an execution needs at the moment are kept.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._objects, self._pins, self._lock = folder / "objects", folder / "pins", folder / "lock"
        for made in (folder, self._objects, self._pins):
            made.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._whole: dict[str, tuple[int, int, int]] = {}
        self._eviction = Eviction(self._objects, folder / "ghosts", limit_bytes)
        self._evicting = threading.Lock()

    def path(self, key: str) -> str:
        """Return where the copy with this key is, or would be."""
        return f"{self._objects}/{key[:2]}/{key[2:]}"

    @contextmanager
    def pinned(self, keys: Sequence[str]) -> Iterator[None]:
        """Keep copies from being removed, whether they are there already or come meanwhile.

        Raises:
            OSError: The folder cannot be written to.
        """
        pin = self._pins / token_hex(KEY_BYTES)
        with _locked(self._lock, fcntl.LOCK_SH):
            descriptor = os.open(pin, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _write_all(descriptor, bytes.fromhex("".join(keys)))
            except OSError:
                _unpin(pin, descriptor)
                raise
        try:
            yield
        finally:
            _unpin(pin, descriptor)

    def has(self, key: str, size_bytes: int, *, is_block: bool = False) -> bool:
        """Return True if the copy of an object of this size, or of a block of it, is there and whole."""
        path = self.path(key)
        try:
            status = os.stat(path)  # noqa: PTH116  # once for each object that a query reads
        except (FileNotFoundError, NotADirectoryError):
            return False
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._whole.get(key) != seen:
            end_bytes, is_whole = (BLOCK_END_BYTES, _is_whole_block) if is_block else (DIGEST_BYTES, _is_whole)
            if status.st_size != size_bytes + end_bytes or not is_whole(path):
                _remove(Path(path))
                return False
            self._remember(key, seen)
        counted(path, status.st_mode)
        return True

    def has_size(self, key: str, size_bytes: int, *, is_block: bool = False) -> bool:
        """Return True if there is a copy of the size that one of such an object has; it is not read, nor counted."""
        try:
            status = os.stat(self.path(key))  # noqa: PTH116  # once for each object of a scan
        except (FileNotFoundError, NotADirectoryError):
            return False
        return status.st_size == size_bytes + (BLOCK_END_BYTES if is_block else DIGEST_BYTES)

    def discard(self, keys: Iterable[str]) -> None:
        """Remove copies, but none that an execution has pinned: it may be reading it.

        Raises:
            OSError: The folder cannot be written to.
        """
        with _locked(self._lock, fcntl.LOCK_EX):
            for key in {*keys} - {*self._pinned()}:
                _remove(Path(self.path(key)))

    def read(self, key: str) -> memoryview | None:
        """Return the bytes of a copy; None if there is no whole one."""
        path = Path(self.path(key))
        try:
            stored = path.read_bytes()
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if not _has_digest(stored):
            _remove(path)
            return None
        counted(str(path), mode)
        return memoryview(stored)[:-DIGEST_BYTES]

    def put(self, key: str, content: bytes | memoryview, digest: bytes) -> None:
        """Keep a copy.

        Args:
            key: The key of the object's version.
            content: The object's bytes.
            digest: Their SHA-256.

        Raises:
            OSError: There is no room, or the folder cannot be written to.
        """
        self._put(key, [(0, content), (len(content), digest)])

    def put_block(self, key: str, size_bytes: int, extents: Sequence[Extent]) -> None:
        """Keep a block of an object: a file of the object's size, with holes.

        Args:
            key: The key of the block.
            size_bytes: The size of the object.
            extents: The bytes that are kept, and their places.

        Raises:
            OSError: There is no room, or the folder cannot be written to.
        """
        ranges = [(start, len(content)) for start, content in extents]
        places = _PLACES.pack(*chain.from_iterable([*ranges, *[(0, 0)] * (EXTENTS - len(ranges))]))
        digest = hashlib.sha256(places)
        for _, content in extents:
            digest.update(content)
        self._put(key, [*extents, (size_bytes, places + digest.digest())])

    def _put(self, key: str, extents: Sequence[tuple[int, bytes | memoryview]]) -> None:
        path = Path(self.path(key))
        temporary = path.with_name(f"{path.name}.{token_hex(4)}")
        try:
            _write(temporary, extents)
            self._eviction.admit(temporary, key)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        status = path.stat()
        self._remember(key, (status.st_ino, status.st_size, status.st_mtime_ns))
        self._eviction.wrote(status)
        if self._eviction.is_due and self._evicting.acquire(blocking=False):
            threading.Thread(target=self._evict, name="dagfusion-evict", daemon=True).start()

    def _evict(self) -> None:
        is_due = True
        while is_due:
            try:
                # Runs wait for the lock before they start, so the copies are listed without it.
                listed = self._eviction.listed()
                with _locked(self._lock, fcntl.LOCK_EX):
                    self._eviction.run(listed, frozenset(self._pinned()))
            except OSError as error:
                _log.warning("local copies of objects cannot be removed: %s", error)
            finally:
                self._evicting.release()
            # The copies that came meanwhile have not started another eviction.
            is_due = self._eviction.is_due and self._evicting.acquire(blocking=False)

    def _pinned(self) -> Iterable[str]:
        """Yield the keys that executions need; the pins of processes that are gone are removed."""
        for pin in self._pins.iterdir():
            try:
                with pin.open("rb") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        keys = file.read().hex()
                        yield from (keys[at : at + 2 * KEY_BYTES] for at in range(0, len(keys), 2 * KEY_BYTES))
                    else:
                        pin.unlink(missing_ok=True)
            except (FileNotFoundError, IsADirectoryError):
                continue  # the execution has ended, or it is no pin

    def _remember(self, key: str, seen: tuple[int, int, int]) -> None:
        if len(self._whole) >= _KNOWN:
            self._whole.clear()
        self._whole[key] = seen


def open_copies(settings: Settings) -> Copies | None:
    """Return the local copies of objects.

    Returns:
        None if the settings want no copies, or no folder can be written to.
    """
    return _open(settings, "objects", settings.object_cache_dir, settings.object_cache_bytes)


def open_results(settings: Settings) -> Copies | None:
    """Return the results that are kept.

    Returns:
        None if the settings want none to be kept, or no folder can be written to.
    """
    return _open(settings, "results", settings.result_cache_dir, settings.result_cache_bytes)


def _open(settings: Settings, name: str, folder: str | None, limit_bytes: int) -> Copies | None:
    """Return the copies in the settings' folder, or in the process's own where no folder can be kept."""
    if folder == NO_STATE:
        return None
    for kept in _folders(settings, name, folder):
        try:
            return Copies(kept, limit_bytes)
        except OSError as error:
            _log.warning("%s cannot be kept in %s: %s", _CALLED[name], kept, error)
    try:
        temporary = Path(tempfile.mkdtemp(prefix="dagfusion-"))
        copies = Copies(temporary, limit_bytes)
    except OSError as error:
        _log.warning("%s are not kept, because no folder for them can be made: %s", _CALLED[name], error)
        return None
    weakref.finalize(copies, shutil.rmtree, temporary, ignore_errors=True)
    return copies


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, extents: Sequence[tuple[int, bytes | memoryview]]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_file():  # which is no copy
            path.parent.unlink()
        path.parent.mkdir(_PRIVATE, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    try:
        for start, content in extents:
            os.lseek(descriptor, start, os.SEEK_SET)
            _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _unpin(pin: Path, descriptor: int) -> None:
    pin.unlink(missing_ok=True)
    os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove what is in a copy's place, which may be a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_whole(path: str) -> bool:
    """Compare a copy with its digest."""
    try:
        return _has_digest(Path(path).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        return False


def _is_whole_block(path: str) -> bool:
    """Compare a block with its digest."""
    try:
        with Path(path).open("rb") as file:
            object_bytes = file.seek(-BLOCK_END_BYTES, os.SEEK_END)
            places, stored = file.read(_PLACES.size), file.read()
            numbers = _PLACES.unpack(places)
            digest = hashlib.sha256(places)
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                if start + length > object_bytes:
                    return False
                file.seek(start)
                digest.update(file.read(length))
    except (FileNotFoundError, IsADirectoryError):
        return False
    return digest.digest() == stored


def _has_digest(stored: bytes) -> bool:
    return hashlib.sha256(memoryview(stored)[:-DIGEST_BYTES]).digest() == stored[-DIGEST_BYTES:]


def _folders(settings: Settings, name: str, folder: str | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder).expanduser()
    elif (state := settings.state_folder()) is not None:
        yield state / name
