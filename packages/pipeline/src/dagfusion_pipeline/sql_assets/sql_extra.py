"""The extra `sql`: if a library of it is missing, the error names the extra to install."""

from importlib.util import find_spec

from dagfusion_pipeline.errors import MissingExtraError

LIBRARIES = ("dagfusion_query", "sqlglot")


def check_sql_extra(what: str) -> None:
    """Refuse to go on without the libraries of the extra, of which none is imported here.

    Raises:
        MissingExtraError: One is not installed.
    """
    missing = [name.replace("_", "-") for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{what} needs {missing[0]}, which is not installed: pip install 'dagfusion-pipeline[sql]'"
        )
