"""How the report writes times and tables."""

from collections.abc import Iterable, Sequence


def seconds(value: float | None) -> str:
    """Write a time with two digits that count: `4.8 ms`, `1.2 s`.

    >>> seconds(0.00479), seconds(0.0479), seconds(1.24), seconds(None)
    ('4.8 ms', '48 ms', '1.2 s', '')
    """
    if value is None:
        return ""
    scaled, unit = (value * 1000, "ms") if value < 0.9995 else (value, "s")
    return f"{scaled:.1f} {unit}" if scaled < 9.95 else f"{scaled:.0f} {unit}"


def table(header: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table; columns after the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
