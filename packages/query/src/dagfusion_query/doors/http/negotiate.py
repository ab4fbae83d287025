"""`Accept` and `Accept-Encoding`: what a client can read, and how a streamed body is compressed."""

import io
from collections.abc import Iterator

import pyarrow as pa

from dagfusion_query.errors import BadRequestError
from dagfusion_query.formats.result_format import Format


def negotiated(accept: str) -> Format:
    """Return the format that a client likes best.

    Raises:
        BadRequestError: It takes none that there is.
    """
    for wanted in _by_quality(accept):
        for form in Format:
            if any(_fits(name, wanted) for name in form.row.media_types):
                return form
    known = ", ".join(form.media_type for form in Format)
    raise BadRequestError(f"Accept must name one of {known}, unless the body has a format; got {accept[:200]!r}")


def content_type(form: Format, accept: str) -> str:
    """Return what a result in a format is called: as the client calls it, if it does by one of the format's names."""
    named = next((wanted for wanted in _by_quality(accept) if wanted in form.row.media_types), form.media_type)
    return f"{named}{form.row.parameters}"


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


class Zstd:
    """One zstd frame, given as it grows: what was added can be read at once."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._sink, mode="w"), "zstd")

    def add(self, chunk: bytes | memoryview) -> bytes:
        """Return what is to be sent for a chunk."""
        self._stream.write(chunk)
        self._stream.flush()
        return self._taken()

    def finish(self) -> bytes:
        """Return the frame's end."""
        self._sink.close = lambda: None  # type: ignore[method-assign]  # Arrow closes it, and the end is still to be read
        self._stream.close()
        return self._taken()

    def _taken(self) -> bytes:
        taken = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return taken
