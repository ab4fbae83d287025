"""What a query cost, in words. Pure."""

from dagfusion_query.answers import QueryStats


def cost(stats: QueryStats) -> str:
    """Say in one line what a query read."""
    files = f"{stats.files_read:,} of {stats.files_total:,} files read, " if stats.files_total else ""
    requests = f" in {counted(stats.requests, 'request')}" if stats.requests else ""
    return f"{counted(stats.rows, 'row')}; {files}{size(stats.bytes_read)}{requests}, {stats.seconds * 1000:,.1f} ms"


def counted(count: int, what: str) -> str:
    """Write a number of things: `1 row`, `1,200 rows`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Write a number of bytes as a person does: `741 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
