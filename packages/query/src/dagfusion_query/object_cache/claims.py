"""Claims: the results that some process computes at the moment, so that equal statements wait instead of running too.

    {folder}/{32 digits}   locked by the process that computes the result with this identity

The kernel releases the lock of a process that dies. An execution updates the modification time of the file while it
goes on. Statements stop waiting when this time gets old: the execution is stopped then, or its client takes nothing.
"""

import fcntl
import logging
import os
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

_log = logging.getLogger(__name__)
BEAT_S = 0.1  # between two signs of life of an execution that computes
_PATIENCE_S = 1.0  # without a sign of life
_HANDED_OUT_S = 0.2  # that a client may take for a batch
_FIRST_LOOK_S, _LAST_LOOK_S = 0.001, 0.02
_MODE, _WANTED = 0o600, 0o010


class Claim:
    """The right to compute one result, until it is released. Thread-safe.

    Args:
        path: The file.
        descriptor: Holds the lock on it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._end = weakref.finalize(self, _end, path, descriptor)  # also of an execution that is dropped

    def beat(self) -> None:
        """Show that the execution goes on."""
        self._touch(time.time())

    def mark_delivered(self) -> None:
        """Record that a client has a batch: followers wait a short time until it requests the next one."""
        self._touch(time.time() - _PATIENCE_S + _HANDED_OUT_S)

    @property
    def is_wanted(self) -> bool:
        """True if another statement has waited for the result."""
        with suppress(OSError):
            return bool(self._path.stat().st_mode & _WANTED)
        return False

    def release(self) -> None:
        """End the wait of others. More than once does nothing."""
        self._end()

    def _touch(self, at: float) -> None:
        if self._end.alive:
            with suppress(OSError):  # the time gets old then, and other statements stop waiting
                os.utime(self._path, (at, at))


class Claims:
    """A folder of claims. Thread-safe; processes share it.

    Args:
        folder: Made if it is not there, for its owner only.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(0o700, parents=True, exist_ok=True)
        self._sweep()

    def take(self, key: str, cancelled: Event) -> Claim | None:
        """Return the claim on a result; wait while another execution has it.

        Returns:
            None without a claim: the execution shows no sign of life, `cancelled` was set, another one that waited has
            the claim by now, or claims cannot be made.
        """
        path = self._folder / key
        has_waited = False
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
                with ExitStack() as opened:
                    opened.callback(os.close, descriptor)
                    is_ours = _is_locked(descriptor)
                    if not (is_ours or has_waited):
                        is_ours, has_waited = _is_released(descriptor, cancelled), True
                    if is_ours and _is_at(path, descriptor):
                        os.utime(path)
                        opened.pop_all()
                        return Claim(path, descriptor)
                if not is_ours:
                    return None
        except OSError as error:
            _log.warning("equal statements do not wait for each other: %s", error)
            return None

    def _sweep(self) -> None:
        """Remove the claims of processes that were killed."""
        for path in self._folder.iterdir():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    if _is_locked(descriptor) and _is_at(path, descriptor):  # it may be another one's by now
                        path.unlink()
                finally:
                    os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Try to lock a file, and return True if this succeeds."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_released(descriptor: int, cancelled: Event) -> bool:
    """Wait for the lock on a file, and return True if it came."""
    os.fchmod(descriptor, _MODE | _WANTED)
    look_s = _FIRST_LOOK_S
    while not (is_ours := _is_locked(descriptor)) and _is_alive(descriptor) and not cancelled.wait(look_s):
        look_s = min(_LAST_LOOK_S, 1.5 * look_s)
    return is_ours


def _is_at(path: Path, descriptor: int) -> bool:
    """Return True if the file at a path is still the one that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_alive(descriptor: int) -> bool:
    return abs(time.time() - os.fstat(descriptor).st_mtime) < _PATIENCE_S


def _end(path: Path, descriptor: int) -> None:
    with suppress(OSError):  # the next execution takes the file that is left
        path.unlink()
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked has the file, too
    os.close(descriptor)
