"""A file system that is small enough to be filled."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system of 256 KiB."""

    folder: Path

    def fill(self) -> None:
        """Fill it to its last byte."""
        with (self.folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """Make room again."""
        (self.folder / "filling").unlink()


@contextmanager
def mounted(folder: Path) -> Iterator[SmallDisk]:
    """Mount one over a folder, or skip the test where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounting = subprocess.run(mount, check=False, capture_output=True)  # noqa: S603  # of this test
    except FileNotFoundError:
        pytest.skip("there is no program that mounts file systems")
    if mounting.returncode != 0:
        pytest.skip("this user may not mount file systems")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607  # likewise
