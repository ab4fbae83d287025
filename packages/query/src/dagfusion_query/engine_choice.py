"""The engine that runs a statement, as callers choose it. Pure."""

from enum import StrEnum

from dagfusion_query.errors import EngineChoiceError

_SHOWN = 100


class EngineChoice(StrEnum):
    """The engine of a statement."""

    local = "local"  # a worker
    spark = "spark"  # the Spark Connect server
    auto = "auto"  # by the bytes that the statement's files have


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
