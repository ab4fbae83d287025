"""The options that commands share, and the conversion of their values to parameters and an output file."""

import contextlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from dagfusion_client import formats
from dagfusion_client.errors import ParameterError
from dagfusion_client.settings import REVISIONS_LIMIT, ClientSettings
from dagfusion_contract.setting_declarations import option_help
from dagfusion_query.settings import Settings

EventLogOption = Annotated[
    str | None, typer.Option("--event-log", metavar="URL|DIR", help=option_help(Settings, "event_log"))
]
EnvironmentOption = Annotated[
    str | None,
    typer.Option("--environment", "-e", help="The name of the event log's environment, such as local, uat or prod."),
]
StatementArgument = Annotated[
    str | None,
    typer.Argument(metavar="STATEMENT", help="One SELECT statement. If it is missing or `-`, it is read from stdin."),
]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the statement from a file.")
]
ParamsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="[NAME=]VALUE",
        help="A parameter. NAME=VALUE sets $NAME; VALUE alone sets the next of $1, $2, ... A value that looks like a "
        "number, true, false, null, a date or a timestamp is one. Other values, and those in single quotes, are text. "
        "Repeatable.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME|ID",
        help="Read the tables as of a time (ISO 8601; UTC without a zone) or the id of an event in Dagster.",
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="local|spark|auto",
        help="The engine: local, spark (the Spark Connect server of the service), or auto (spark for large scans).",
    ),
]
OutputFileOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the rows to a file. An existing file is replaced after the last row.",
    ),
]
UrlOption = Annotated[str | None, typer.Option("--url", metavar="URL", help=option_help(ClientSettings, "url"))]
TokenOption = Annotated[str | None, typer.Option("--token", metavar="TOKEN", help=option_help(ClientSettings, "token"))]
MaxRowsOption = Annotated[int, typer.Option("--max-rows", min=0, help="The maximum number of rows shown; 0 shows all.")]
EveryAssetOption = Annotated[
    bool, typer.Option("--all", help="Also list assets that are not Parquet, each with the reason.")
]
TableNameArgument = Annotated[
    str, typer.Argument(metavar="TABLE", help="schema.table, as `dagfusion tables` lists it.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=REVISIONS_LIMIT, help="The maximum number of revisions.")
]
DiffOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--diff",
        metavar="BEFORE AFTER",
        help="Compare two states of the table. Each is a time or the id of an event; AFTER can also be `now`.",
    ),
]
LocationOption = Annotated[
    str | None,
    typer.Option(
        "--location",
        metavar="URI",
        help="The folder of the Delta table, such as s3://bucket/folder. Default: the folder of the asset's objects.",
    ),
]
_NAMED = re.compile(r"\$?([A-Za-z_]\w*|[1-9]\d{0,3})=(.*)", re.DOTALL)
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")  # 01234 is a postal code
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?")
_WORDS = {"true": True, "false": False, "null": None}
_INT64 = range(-(2**63), 2**63)
ParameterValues = list[Any] | dict[str, Any]


class OutputFormat(StrEnum):
    """The format of the rows."""

    table = "table"
    json = formats.Format.json.value
    jsonl = formats.Format.jsonl.value
    csv = formats.Format.csv.value
    arrow = formats.Format.arrow.value
    parquet = formats.Format.parquet.value


class TableFormat(StrEnum):
    """The format of exported metadata."""

    delta = "delta"


TableFormatOption = Annotated[TableFormat, typer.Option("--format", "-F", help="The format of the table's metadata.")]
FormatOption = Annotated[OutputFormat, typer.Option("--format", "-F", help="The format of the rows.")]
ResultFormatOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", "-F", help="The format of the rows. Default: the format of the output file's suffix, else table."
    ),
]
# What the end of a file's name says.
_FORMATS = {
    ".txt": OutputFormat.table,
    **{suffix: OutputFormat(form.value) for form in formats.Format for suffix in form.row.suffixes},
}


def chosen_format(form: OutputFormat | None, file: Path | None) -> OutputFormat:
    """Return the given format, or that of the output file's name.

    Raises:
        ValueError: The name says none.
    """
    if form is not None:
        return form
    if file is None:
        return OutputFormat.table
    if (found := _FORMATS.get(file.suffix.lower())) is None:
        raise ValueError(f"the name of {file} has no known format: end it in {', '.join(_FORMATS)}, or give --format")
    return found


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that replaces `path` at the end of the block; an error leaves what was there.

    Raises:
        BadParameter: The file cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        return
    target = path.expanduser().resolve()
    # The name is known before there is a file, so an interrupt at any moment leaves none.
    draft = None if _is_special(target) else target.parent / f".{target.name[:100]}.{secrets.token_hex(4)}.part"
    try:
        with _created(path, target, draft) as file:
            yield file
        if draft is not None:
            draft.replace(target)
    except BaseException:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink()
        raise


def read_parameters(options: Sequence[str]) -> ParameterValues | None:
    """Read `name=value`, for `$name`, or `value`, for the next of `$1`, `$2`, ...; `2=value` is for `$2`.

    >>> read_parameters(["state=CA", "day=2024-01-05"])
    {'state': 'CA', 'day': datetime.date(2024, 1, 5)}
    >>> read_parameters(["7", "1.5", "true", "null", "01234", "'7'"])
    [7, 1.5, True, None, '01234', '7']

    Raises:
        ParameterError: One is given twice or is missing, or some have names and others have none.
    """
    if not options:
        return None
    values: dict[str, Any] = {}
    for position, text in enumerate(options, 1):
        match = _NAMED.fullmatch(text)
        name, value = match.groups() if match else (str(position), text)
        if name in values:
            raise ParameterError(f"parameter ${name} is given twice")
        values[name] = read_value(value)
    positions = [name for name in values if name.isdecimal()]
    if not positions:
        return values
    if len(positions) < len(values):
        name = next(name for name in values if not name.isdecimal())
        raise ParameterError(
            f"parameters either all have names or none has: got ${name} and ${positions[0]}. "
            "Text that contains = is given as 1=TEXT"
        )
    numbers = [str(number) for number in range(1, len(values) + 1)]
    if missing := next((name for name in numbers if name not in values), None):
        raise ParameterError(f"parameter ${missing} is missing: got ${', $'.join(positions)}")
    return [values[name] for name in numbers]


def read_value(text: str) -> Any:
    """Return the value of a text. It is text if it has the form of no other type."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text) and int(text) in _INT64:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else _moment(text)


def _created(path: Path, target: Path, draft: Path | None) -> BinaryIO:
    """Open the draft of a file, with the access that the file has or would get; the target itself without a draft."""
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if draft is None:
            return target.open("wb")
        file = draft.open("xb")
        if target.exists():
            os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror or error}") from error
    return file


def _is_special(target: Path) -> bool:
    """Return True for a pipe or a device, which cannot be replaced."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _moment(text: str) -> date | datetime | str:
    """Return a date or a timestamp, or the text of what is neither, such as the 30th of February."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        return datetime.fromisoformat(text) if _TIMESTAMP.fullmatch(text) else text
    except ValueError:
        return text
