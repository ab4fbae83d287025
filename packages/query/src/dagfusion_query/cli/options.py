"""The options that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dagfusion_query.formats import result_format


class Format(StrEnum):
    """How rows are written."""

    table = "table"
    json = result_format.Format.json.value
    jsonl = result_format.Format.jsonl.value
    csv = result_format.Format.csv.value
    arrow = result_format.Format.arrow.value
    parquet = result_format.Format.parquet.value


EventLog = Annotated[
    str | None, typer.Option("--event-log", metavar="URL|DIR", help="postgresql:// URL or DAGSTER_HOME folder.")
]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Its name, such as local, uat or prod.")]
FormatOption = Annotated[Format, typer.Option("--format", "-F", help="How rows are written.")]
ResultFormat = Annotated[
    Format | None,
    typer.Option(
        "--format", "-F", help="How rows are written; by default a table, or what the name of the output file says."
    ),
]
Query = Annotated[str | None, typer.Argument(help="One SELECT statement; read from stdin when it is missing or `-`.")]
File = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the statement from a file.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="[NAME=]VALUE",
        help="A value for $NAME, or without a name for the next of $1, $2, ...: a number, true, false, null, a date or "
        "a timestamp, else text; '...' in quotes is text. Repeatable.",
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the rows to a file, which is replaced when all of them are there.",
    ),
]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="A query service, http:// or grpc://; else DAGFUSION_URL.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="For the service; better DAGFUSION_TOKEN, which no list of processes shows."
    ),
]
MaxRows = Annotated[int, typer.Option("--max-rows", min=0, help="Rows a table shows; 0 for all.")]
EveryAsset = Annotated[bool, typer.Option("--all", help="List assets that are not Parquet, too, each with the reason.")]
TableName = Annotated[str, typer.Argument(metavar="TABLE", help="schema.table, as `dagfusion tables` lists it.")]
