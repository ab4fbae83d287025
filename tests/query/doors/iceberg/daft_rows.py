"""Run in an environment with Daft: write the rows of a table of an Iceberg catalog to a file of Arrow.

Usage: daft_rows.py FUNCTION FILE CATALOG_URL TABLE COLUMN..., with the AWS_* variables of the object store. FUNCTION is
the code of the guide, which defines `rows_by_daft`.
"""

import os
import sys
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog

function, file, url, table, *columns = sys.argv[1:]
s3 = {
    "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
    "region_name": os.environ["AWS_REGION"],
    "key_id": os.environ["AWS_ACCESS_KEY_ID"],
    "access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
}
guide: dict[str, Any] = {}
exec(function, guide)  # noqa: S102  # our own document
properties: dict[str, Any] = {"uri": url, "auth": {"type": "noop"}}
rows = guide["rows_by_daft"](RestCatalog("lake", **properties).load_table(table), columns, **s3)
with pa.ipc.new_file(file, rows.schema) as writer:
    writer.write_table(rows)
