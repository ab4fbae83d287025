"""The engine that runs a statement, as callers choose it. Pure."""

import re
from enum import StrEnum

from dagfusion_client.errors import EngineChoiceError

_SHOWN = 100
_SPARK_URL = re.compile(r"sc://[^/\s]+(/\S*)?")


class EngineChoice(StrEnum):
    """The engine of a statement."""

    local = "local"  # a worker
    spark = "spark"  # the Spark Connect server
    auto = "auto"  # by the bytes that the statement's files have


def is_spark_url(text: str) -> bool:
    """Return True for the URL of a Spark Connect server.

    >>> is_spark_url("sc://host:443/;use_ssl=true"), is_spark_url("http://host")
    (True, False)
    """
    return _SPARK_URL.fullmatch(text) is not None


def read_engine(text: str) -> EngineChoice:
    """Read a choice.

    Raises:
        EngineChoiceError: There is no such engine.

    >>> read_engine("auto")
    <EngineChoice.auto: 'auto'>
    """
    try:
        return EngineChoice(text)
    except ValueError:
        choices = ", ".join(EngineChoice)
        raise EngineChoiceError(f"engine must be one of {choices}, got {str(text)[:_SHOWN]!r}") from None
