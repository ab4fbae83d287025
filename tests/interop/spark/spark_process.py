"""Runs Spark in a process of its own, which `spark_runtime.py` starts: reads statements, and writes Arrow streams.

pyspark leaves sockets to the garbage collector, which are errors in the tests' own process.
"""

import json
import sys
from typing import Any, BinaryIO

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from tests.interop.spark.spark_runtime import HEADER


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until their end; each is a line of JSON with settings of the session, and a statement."""
    session: Any = None
    for line in requests:
        request = json.loads(line)
        try:
            session = configured(session, request["settings"])
            answer, is_table = _stream(session, request["sql"]), True
        except Exception as error:  # noqa: BLE001  # the test raises it
            answer, is_table = str(error).encode(), False
        answers.write(HEADER.pack(is_table, len(answer)) + answer)
        answers.flush()


def configured(session: Any, settings: dict[str, str]) -> Any:
    if session is None:
        builder: Any = SparkSession.builder
        for key, value in settings.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    else:
        for key, value in settings.items():
            session.conf.set(key, value)
    return session


def _stream(session: Any, sql: str) -> bytes:
    found = session.sql(sql)
    batches = found._collect_as_arrow()  # as toPandas does
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema if batches else to_arrow_schema(found.schema)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
