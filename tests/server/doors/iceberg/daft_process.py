"""Run in an environment with Daft: read tables of an Iceberg catalog, as commands say.

Usage: daft_process.py FUNCTION CATALOG_URL, with the AWS_* variables of the object store. FUNCTION is the code of the
guide, which defines `rows_by_daft`. Each line of standard input is a command in JSON. Its answer is a line with null,
or with the text of an error.

- `load`: a table, which later commands read as it is now.
- `file`, `table`, `columns`: the rows of a table that was loaded go to a file of Arrow.
- `file`, `sql`: those of a statement. There a table is `lake_` and its name, without its namespace.
- `file`, `sql`, `files`: those of a statement over the Parquet objects that a glob finds in HIVE folders: `files`.
"""

import json
import os
import sys
from functools import cache
from typing import Any

import daft
import pyarrow as pa
from daft.io import IOConfig, S3Config
from pyiceberg.catalog.rest import RestCatalog

S3 = {
    "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
    "region_name": os.environ["AWS_REGION"],
    "key_id": os.environ["AWS_ACCESS_KEY_ID"],
    "access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
}
PROPERTIES: dict[str, Any] = {"uri": sys.argv[2], "auth": {"type": "noop"}}
guide: dict[str, Any] = {}
exec(sys.argv[1], guide)  # noqa: S102  # our own document
loaded = dict[str, Any]()


@cache
def catalog() -> RestCatalog:
    """Open the catalog, which a process that reads files only does not need."""
    return RestCatalog("lake", **PROPERTIES)


def run(command: dict[str, Any]) -> None:
    """Run a command."""
    if "load" in command:
        loaded[command["load"]] = catalog().load_table(command["load"])
        return
    if "files" in command:
        found = daft.read_parquet(command["files"], io_config=IOConfig(s3=S3Config(**S3)), hive_partitioning=True)
        rows = daft.sql(command["sql"], files=found).to_arrow()
    elif "sql" in command:
        store = IOConfig(s3=S3Config(**S3))
        frames = {name.rpartition(".")[2]: daft.read_iceberg(table, io_config=store) for name, table in loaded.items()}
        rows = daft.sql(command["sql"], **{f"lake_{name}": frame for name, frame in frames.items()}).to_arrow()
    else:
        rows = guide["rows_by_daft"](loaded[command["table"]], command["columns"], **S3)
    with pa.ipc.new_file(command["file"], rows.schema) as writer:
        writer.write_table(rows)


for line in sys.stdin:
    try:
        run(json.loads(line))
        error = None
    except Exception as raised:  # noqa: BLE001  # the test raises it
        error = f"{type(raised).__name__}: {raised}"
    print(json.dumps(error), flush=True)  # noqa: T201  # the answer
