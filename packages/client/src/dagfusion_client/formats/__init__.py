"""The result formats: their names, media types, encoders and suffixes of file names.

Light to import: the encoders, which need Arrow, are loaded at their first use.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa

    from dagfusion_client.formats.encoders import Encoder


@dataclass(frozen=True)
class ResultColumn:
    """One column of a result.

    Attributes:
        type: Arrow's name of the type.
    """

    name: str
    type: str


@dataclass(frozen=True)
class RowsDocument:
    """A result in the format `json`. `JsonEncoder` writes it in pieces; `text_values` makes the values.

    Attributes:
        rows: Each has one value for each column.
    """

    columns: Sequence[ResultColumn]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class FormatRow:
    """The entry of one format in the table.

    Attributes:
        media_types: Its names in `Accept`; responses have the first, unless the client names another.
        encoder: The class in `encoders`.
        suffixes: Endings of file names that mean it.
        parameters: The parameters of the media type in `Content-Type`.
        is_compressed: Whether compressing it once more is of no use.
    """

    media_types: Sequence[str]
    encoder: str
    suffixes: Sequence[str]
    parameters: str = ""
    is_compressed: bool = False


class Format(StrEnum):
    """The encoding of a result, which the worker does, so that the service only relays bytes.

    The order decides which format a range such as `application/*` means.
    """

    row: FormatRow

    # An Arrow IPC stream.
    arrow = (
        "arrow",
        FormatRow(["application/vnd.apache.arrow.stream"], "ArrowEncoder", [".arrows", ".arrow", ".feather"]),
    )
    # One `RowsDocument`.
    json = "json", FormatRow(["application/json"], "JsonEncoder", [".json"])
    # One object on each line.
    jsonl = (
        "jsonl",
        FormatRow(
            ["application/x-ndjson", "application/jsonl", "application/json-lines"],
            "JsonLinesEncoder",
            [".jsonl", ".ndjson"],
        ),
    )
    csv = "csv", FormatRow(["text/csv"], "CsvEncoder", [".csv"], "; charset=utf-8; header=present")
    parquet = (
        "parquet",
        FormatRow(["application/vnd.apache.parquet"], "ParquetEncoder", [".parquet", ".pq"], is_compressed=True),
    )

    def __new__(cls, name: str, row: FormatRow | None = None) -> Self:
        """Make a member of its name and row; without one, it is the look-up `Format(name)`."""
        member = str.__new__(cls, name)
        member._value_ = name
        if row is not None:
            member.row = row
        return member

    @property
    def media_type(self) -> str:
        """The name that responses have."""
        return self.row.media_types[0]

    @property
    def encoder(self) -> "Callable[[pa.Schema], Encoder]":
        """Makes an encoder for results of a schema."""
        from dagfusion_client.formats import encoders  # noqa: PLC0415  # imports Arrow

        made: Callable[[pa.Schema], Encoder] = getattr(encoders, self.row.encoder)
        return made
