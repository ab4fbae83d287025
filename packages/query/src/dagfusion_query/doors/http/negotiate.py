"""`Accept` and `Accept-Encoding`: what a client can read. Pure."""

from collections.abc import Iterator

from dagfusion_query.errors import BadRequestError
from dagfusion_query.service.query import Format

# The first of each is what an answer is called; `application/*` means the first row that it fits.
MEDIA_TYPES = {
    Format.arrow: ("application/vnd.apache.arrow.stream",),
    Format.json: ("application/json",),
    Format.jsonl: ("application/x-ndjson", "application/jsonl", "application/json-lines"),
    Format.csv: ("text/csv",),
    Format.parquet: ("application/vnd.apache.parquet",),
}


def negotiated(accept: str) -> Format:
    """Return the format that a client likes best.

    Raises:
        BadRequestError: It takes none that there is.
    """
    for wanted in _by_quality(accept):
        for form, names in MEDIA_TYPES.items():
            if any(_fits(name, wanted) for name in names):
                return form
    known = ", ".join(names[0] for names in MEDIA_TYPES.values())
    raise BadRequestError(
        f"Accept must name a format that there is ({known}), or the body a format; got {accept[:200]!r}"
    )


def takes(accept_encoding: str, coding: str) -> bool:
    """Tell whether a client has asked for a content coding by its name."""
    return coding in _by_quality(accept_encoding)


def _by_quality(header: str) -> Iterator[str]:
    """Yield what a header lists, the best first, without what it refuses."""
    listed: list[tuple[float, int, str]] = []
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((_quality(p.removeprefix("q=")) for p in parameters if p.startswith("q=")), 1.0)
        if name and quality > 0:
            listed.append((-quality, len(listed), name))
    return (name for _, _, name in sorted(listed))


def _quality(text: str) -> float:
    try:
        return min(float(text), 1.0)
    except ValueError:
        return 0.0


def _fits(name: str, wanted: str) -> bool:
    kind, _, rest = wanted.partition("/")
    return wanted in (name, "*/*") or (rest == "*" and name.startswith(f"{kind}/"))
