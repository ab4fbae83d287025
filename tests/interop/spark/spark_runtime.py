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

from tests.interop.spark.sail import await_port

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
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.spark.spark_process"],
            env={**os.environ, **_python(folder)},
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
        """Attach an Iceberg catalog under a name that no other has."""
        vended = {"uri": url, "header.X-Iceberg-Access-Delegation": "vended-credentials"}
        self._told = {**self._told, **_catalog(name, {**vended, **properties})}

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


class SparkServer:
    """A Spark Connect server over Spark.

    Attributes:
        remote: Its URL.
    """

    def __init__(self, remote: str, process: subprocess.Popen[bytes]) -> None:
        self.remote, self._process = remote, process

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""
        children = Path(f"/proc/{self._process.pid}").glob("task/*/children")
        pids = [str(self._process.pid), *(pid for found in children for pid in found.read_text().split())]
        times = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
        return sum(int(ticks) for pair in times for ticks in pair) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(log: Path, port: int, catalog: Mapping[str, str], store: Mapping[str, str]) -> Iterator[SparkServer]:
    """Run a Spark Connect server. The runtime has to be installed.

    Args:
        log: Gets what Spark writes.
        port: That of the server.
        catalog: The name of the service's Iceberg catalog there, and the properties of Iceberg's client.
        store: Variables with the endpoint and the keys of the object store.
    """
    folder = Path(os.environ[RUNTIME]).absolute()
    name, endpoint = catalog["name"], {"s3.endpoint": store["AWS_ENDPOINT_URL"], "s3.path-style-access": "true"}
    settings = {**_settings(folder), **_catalog(name, {**endpoint, **catalog})}
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "tests.interop.spark.spark_connect_process", str(port), json.dumps(settings)],
            env={**os.environ, **_python(folder), **store},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
        )
        try:
            await_port(port)
            yield SparkServer(f"sc://127.0.0.1:{port}", process)
        finally:
            cast("BinaryIO", process.stdin).close()
            process.wait(_PATIENCE_S)


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
    with log.open("wb") as file:
        spark = Spark(folder, _settings(folder), file)
        try:
            yield spark
        finally:
            spark.close()


def _settings(folder: Path) -> dict[str, str]:
    return {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.driver.extraClassPath": os.pathsep.join(map(str, _jars(folder))),
        "spark.ui.enabled": "false",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
    }


def _catalog(name: str, properties: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a catalog under a name, which is asked for each statement anew."""
    found = {"type": "rest", "io-impl": "org.apache.iceberg.aws.s3.S3FileIO", "cache-enabled": "false", **properties}
    given = {f"spark.sql.catalog.{name}.{key}": value for key, value in found.items() if key != "name"}
    return {f"spark.sql.catalog.{name}": "org.apache.iceberg.spark.SparkCatalog", **given}


def _python(folder: Path) -> dict[str, str]:
    """Return the variables with which a process of Python finds pyspark and these tests."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())]), "SPARK_LOCAL_IP": "127.0.0.1"}


def _jars(folder: Path) -> list[Path]:
    """Return the jars that Spark's own do not include."""
    patterns = [_ICEBERG, *(f"bodo_iceberg_connector/jars/libs/{name}-[0-9]*.jar" for name in _AWS.split())]
    found = {pattern: [*folder.glob(pattern)] for pattern in patterns}
    if absent := [pattern for pattern, jars in found.items() if not jars]:
        raise ValueError(f"{folder} has no {', '.join(absent)}: see CONTRIBUTING.md")
    return [jar for jars in found.values() for jar in jars]
