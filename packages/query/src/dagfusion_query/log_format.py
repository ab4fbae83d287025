"""The lines of the service's log: as text, or as JSON with an object a line."""

import logging
from datetime import UTC, datetime
from typing import Any, TextIO

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)


class JsonFormatter(logging.Formatter):
    """Formats a record as an object; `extra={"fields": {...}}` of a call adds to it, such as `query_id`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        import orjson  # noqa: PLC0415  # the help of a command does without it

        return orjson.dumps(entry, default=str).decode()


def configure_log(kind: str, stream: TextIO) -> None:
    """Send the log of this process to a stream, in one of `FORMATS`."""
    handler = logging.StreamHandler(stream)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if kind == JSON else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
