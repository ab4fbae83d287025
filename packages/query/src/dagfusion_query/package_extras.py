"""The extras of the package: if a library of one is missing, the error names the extra to install."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagfusion_query.errors import MissingExtraError

# Top-level modules of the libraries that only extras install.
OPTIONAL = frozenset(
    {
        "google",  # protobuf
        "httptools",
        "pandas",
        "polars",
        "prometheus_client",
        "starlette",
        "typer",
        "uvicorn",
        "uvloop",
    }
)


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Import inside of this what an extra installs.

    Args:
        extra: The extra of the distribution `dagfusion-query`, such as `server`.
        what: What needs it, for the message.

    Raises:
        MissingExtraError: An optional library is not installed. Other imports that fail raise what they raise.

    Example:
        >>> with needs("server", "the query service"):
        ...     raise ModuleNotFoundError(name="starlette.applications")
        Traceback (most recent call last):
            ...
        dagfusion_query.errors.MissingExtraError: the query service needs starlette, which is not installed: pip install 'dagfusion-query[server]'
    """  # noqa: E501
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in OPTIONAL:
            raise
        library = "protobuf" if module == "google" else module
        raise MissingExtraError(
            f"{what} needs {library}, which is not installed: pip install 'dagfusion-query[{extra}]'"
        ) from None
