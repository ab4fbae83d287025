"""What makes a process start faster: pandas hidden from pyarrow, and no garbage collection during imports."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """Finds that there is no pandas.

    With the first array that it makes, pyarrow imports pandas where it is installed, so that it can tell pandas' values
    from others: 0.2 s and 30 MB. Neither commands nor workers have such values.
    """

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def hide_pandas() -> MetaPathFinder:
    """Hide pandas from everything that this process imports; return what hides it, in `sys.meta_path`."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    return finder


def import_without_pandas() -> None:
    """Import pyarrow, and let it find that there is no pandas; a process that has imported either is left as it is."""
    if {"pandas", "pyarrow"} & sys.modules.keys():
        return
    finder = hide_pandas()
    try:
        import pyarrow as pa  # noqa: PLC0415

        pa.scalar(0)  # it looks once
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which takes a seventh of the start of a command that imports and connects."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
