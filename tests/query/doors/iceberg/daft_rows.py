"""Run in an environment with Daft: write the rows of a table of an Iceberg catalog to a file of Arrow.

Usage: daft_rows.py FILE CATALOG_URL TABLE COLUMN..., with the AWS_* variables of the object store.
"""

import os
import sys
from typing import Any

import daft
import pyarrow as pa
from daft.io import IOConfig, S3Config
from pyiceberg.catalog.rest import RestCatalog

file, url, table, *columns = sys.argv[1:]
s3 = S3Config(
    endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    region_name=os.environ["AWS_REGION"],
    key_id=os.environ["AWS_ACCESS_KEY_ID"],
    access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
)
properties: dict[str, Any] = {"uri": url, "auth": {"type": "noop"}}
loaded = RestCatalog("lake", **properties).load_table(table)
rows = daft.read_iceberg(loaded, io_config=IOConfig(s3=s3)).select(*columns).to_arrow()
with pa.ipc.new_file(file, rows.schema) as writer:
    writer.write_table(rows)
