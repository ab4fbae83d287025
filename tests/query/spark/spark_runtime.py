"""Spark itself, where its runtime is installed: a client of the Iceberg catalog, and the judge of Spark's SQL.

The runtime has 600 MB, so no dependency group has it. CONTRIBUTING.md says how to install it into a folder.
"""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pytest

RUNTIME = "SPARK_RUNTIME"  # not a variable of the product, which tests run without
HEADER = struct.Struct(">?Q")  # of an answer: whether it is a table, and its bytes
_ICEBERG = "snowpark_connect_deps_iceberg/jars/iceberg-spark-runtime-3.5_2.12-*.jar"
# What Iceberg's S3FileIO needs of the AWS SDK; the other jars in that folder are for other versions of what Spark has.
_AWS = """
    annotations apache-client arns auth aws-core aws-json-protocol aws-query-protocol aws-xml-protocol checksums
    checksums-spi crt-core endpoints-spi eventstream http-auth http-auth-aws http-auth-aws-eventstream http-auth-spi
    http-client-spi identity-spi json-utils kms metrics-spi profiles protocol-core reactive-streams regions retries
    retries-spi s3 sdk-core sts third-party-jackson-core url-connection-client utils
"""
_PATIENCE_S = 60.0


class SparkFailure(Exception):  # noqa: N818  # not an error of the tests
    """What Spark says of a statement that it does not run."""


class Spark:
    """A session of Spark in a process of its own.

    Args:
        folder: Has the runtime.
        settings: Of the session.
        log: Gets what Spark writes.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], log: BinaryIO) -> None:
        paths = os.pathsep.join([str(folder), str(Path.cwd())])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.query.spark.spark_process"],
            env={**os.environ, "PYTHONPATH": paths, "SPARK_LOCAL_IP": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self._told = settings

    def sql(self, sql: str) -> pa.Table:
        """Return the rows of a statement.

        Raises:
            SparkFailure: Spark does not run it.
        """
        requests, answers = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        requests.write(json.dumps({"settings": dict(self._told), "sql": sql}).encode() + b"\n")
        requests.flush()
        self._told = {}
        is_table, size = HEADER.unpack(answers.read(HEADER.size))
        answer = answers.read(size)
        if not is_table:
            raise SparkFailure(answer.decode())
        return pa.ipc.open_stream(answer).read_all()

    def attach(self, name: str, url: str, **properties: str) -> None:
        """Attach an Iceberg catalog under a name, which each needs for itself; it is asked for each statement anew."""
        catalog = {
            "type": "rest",
            "uri": url,
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "header.X-Iceberg-Access-Delegation": "vended-credentials",
            "cache-enabled": "false",
            **{key.replace("_", "-"): value for key, value in properties.items()},
        }
        given = {f"spark.sql.catalog.{name}.{key}": value for key, value in catalog.items()}
        self._told = {**self._told, f"spark.sql.catalog.{name}": "org.apache.iceberg.spark.SparkCatalog", **given}

    def close(self) -> None:
        """End the process."""
        cast("BinaryIO", self._process.stdin).close()
        self._process.wait(_PATIENCE_S)
        cast("BinaryIO", self._process.stdout).close()


def skip_without(spark: Spark | None) -> Spark:
    """Skip the test where Spark's runtime is not installed."""
    if spark is None:
        pytest.skip(f"{RUNTIME} names no folder with Spark's runtime: see CONTRIBUTING.md")
    return spark


@contextmanager
def running(log: Path) -> Iterator[Spark | None]:
    """Run Spark, or nothing where its runtime is not installed.

    Raises:
        ValueError: The folder that is named lacks a part.
    """
    if RUNTIME not in os.environ:
        yield None
        return
    folder = Path(os.environ[RUNTIME]).absolute()
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.driver.extraClassPath": os.pathsep.join(map(str, _jars(folder))),
        "spark.ui.enabled": "false",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
    }
    with log.open("wb") as file:
        spark = Spark(folder, settings, file)
        try:
            yield spark
        finally:
            spark.close()


def _jars(folder: Path) -> list[Path]:
    """Return the jars that Spark's own do not include."""
    patterns = [_ICEBERG, *(f"bodo_iceberg_connector/jars/libs/{name}-[0-9]*.jar" for name in _AWS.split())]
    found = {pattern: [*folder.glob(pattern)] for pattern in patterns}
    if absent := [pattern for pattern, jars in found.items() if not jars]:
        raise ValueError(f"{folder} has no {', '.join(absent)}: see CONTRIBUTING.md")
    return [jar for jars in found.values() for jar in jars]
