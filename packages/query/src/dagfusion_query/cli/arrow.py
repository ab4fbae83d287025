"""pyarrow for a command: without pandas, which takes longer to import than all the rest."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """Finds that there is no pandas."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def import_without_pandas() -> None:
    """Import pyarrow, and let it find that there is no pandas; a process that has imported either is left as it is.

    With the first array that it makes, pyarrow imports pandas where it is installed, so that it can tell pandas' values
    from others. No command has any.
    """
    if {"pandas", "pyarrow"} & sys.modules.keys():
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa  # noqa: PLC0415

        pa.scalar(0)  # it looks once
    finally:
        sys.meta_path.remove(finder)
