"""TPC-H over partitioned tables of the IO managers: a worker of the query service beside 1, 2 and 4 workers of Sail.

    python -m benchmarks.distributed --scale 1       prints a table of times and ratios

The answers are compared first. Then both engines run each statement in turns, so that other work on the machine slows
both alike.
Each worker of Sail is a process; all processes share the cores of this machine.
"""

import argparse
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import dagster as dg

from benchmarks.service import in_turns
from benchmarks.tables import seconds, table
from dagfusion_client.errors import RemoteEngineError
from dagfusion_query import Connection, connect
from dagfusion_query.access.authentication import Tokens
from dagfusion_stack import object_store
from tests.interop.spark import tpch
from tests.interop.spark.answers import same
from tests.interop.spark.sail import free_port, running
from tests.server.processes.process import served

BUCKET, PREFIX = "lake", "tpch"
WORKERS = (1, 2, 4)
# A year of the large tables is an object, so that several workers have something to read.
PARTITIONED_BY = {"lineitem": "l_year", "orders": "o_year", "customer": "c_mktsegment"}
ADDED = {"lineitem": "strftime(l_shipdate, '%Y') AS l_year", "orders": "strftime(o_orderdate, '%Y') AS o_year"}
FAILED = re.compile(r"of the Spark engine at \S+ (.*)")
PARALLELISM = 4  # of Sail's plans, so that each of four workers has a part


class Pair(NamedTuple):
    """The median times of a statement, in seconds: in a worker of the service, and on Sail."""

    local_s: float
    spark_s: float


Times = Mapping[int, Mapping[int, Pair]]


@contextmanager
def lake(scale: float, folder: Path) -> Iterator[tuple[dict[str, str], dict[int, str]]]:
    """Run an S3 server, and write the tables; yield the variables of a service over them, and the statements."""
    home = folder / "home"
    home.mkdir()
    with object_store.running(folder / "s3", buckets=[BUCKET]) as store:
        own = store.environ()
        fields = {
            "bucket": BUCKET,
            "prefix": PREFIX,
            "endpoint_url": own["AWS_ENDPOINT_URL"],
            "region": own["AWS_REGION"],
            "access_key_id": own["AWS_ACCESS_KEY_ID"],
            "secret_access_key": own["AWS_SECRET_ACCESS_KEY"],
        }
        with dg.DagsterInstance.from_config(str(home)) as instance:
            queries = tpch.materialize(tpch.Writer.over(instance, fields), scale, PARTITIONED_BY, ADDED)
        variables = {"ENVIRONMENT": "uat", "DAGFUSION_EVENT_LOG": str(home), **own}
        yield variables, {number: sql for number, sql in queries.items() if number not in tpch.NOT_SENT}


def measure(scale: float, folder: Path, rounds: int) -> Times:
    """Return the times by the number of workers and of the statement."""
    port, tokens = free_port(), Tokens(folder / "state" / "tokens.json")
    token = tokens.create("sail", ["*"])
    with lake(scale, folder) as (variables, queries):
        service = {
            **variables,
            "DAGFUSION_ANONYMOUS": "loopback",
            "DAGFUSION_ICEBERG_METADATA": f"s3://{BUCKET}/{PREFIX}/_iceberg",
            "DAGFUSION_SPARK_REMOTE": f"sc://127.0.0.1:{port}",
            "DAGFUSION_RESULT_CACHE_DIR": "none",
        }
        cluster = {
            **{name: value for name, value in variables.items() if name.startswith("AWS_")},
            "AWS_ALLOW_HTTP": "true",
            "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(PARALLELISM),
            "SAIL_CLUSTER__WORKER_HEARTBEAT_TIMEOUT_SECS": "120",  # more than a busy machine needs
        }
        with served(folder, variables=service) as server, connect(server.url) as connection:
            catalog = {"name": "lake", "uri": f"{server.url}/iceberg", "bearer_access_token": token}
            times: dict[int, dict[int, Pair]] = {}
            for workers in WORKERS:
                with running(folder, port, catalog, cluster, workers):
                    found = {number: _pair(connection, sql, rounds) for number, sql in queries.items()}
                times[workers] = {number: pair for number, pair in found.items() if pair is not None}
                print(report({workers: times[workers]}), flush=True)
            if failed := FAILED.findall(server.log.read_text()):
                print("Statements that Sail failed:", *failed, sep="\n")
    return times


def report(times: Times) -> str:
    """Write the times, their sums over the statements that all clusters ran, and geometric means of their ratios."""
    local_s = {
        number: statistics.median(pairs[number].local_s for pairs in times.values() if number in pairs)
        for number in sorted({number for pairs in times.values() for number in pairs})
    }
    body: list[Sequence[object]] = [
        [
            f"Q{number}",
            seconds(local),
            *(seconds(pairs[number].spark_s) if number in pairs else "failed" for pairs in times.values()),
        ]
        for number, local in local_s.items()
    ]
    common = set(local_s).intersection(*times.values())
    sums = [sum(pairs[number].spark_s for number in common) for pairs in times.values()]
    body.append([f"sum of {len(common)}", *map(seconds, (sum(local_s[number] for number in common), *sums))])
    ratios = [
        statistics.geometric_mean(one.spark_s / one.local_s for one in pairs.values()) for pairs in times.values()
    ]
    body.append(["ratio to local", "1.0", *(f"{ratio:.1f}" for ratio in ratios)])
    return table(["statement", "local", *(f"Sail, {workers} worker{'s' * (workers > 1)}" for workers in times)], body)


def _pair(connection: Connection, sql: str, rounds: int) -> Pair | None:
    """Return the times of a statement; None if Sail fails it."""
    try:
        same(connection, sql)
        runs = {engine: partial(_run, connection, sql, engine) for engine in ("local", "spark")}
        found = in_turns(runs, rounds)
    except RemoteEngineError:
        return None
    return Pair(found["local"], found["spark"])


def _run(connection: Connection, sql: str, engine: str) -> None:
    connection.sql(sql, engine=engine).to_arrow()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="the scale factor of TPC-H (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each statement (default: 3)")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with TemporaryDirectory(prefix="dagfusion-tpch-") as folder:
        times = measure(arguments.scale, Path(folder), arguments.rounds)
    print(report(times))
    print(f"\nTPC-H at scale {arguments.scale:g}, {os.cpu_count()} cores, load average at the start {load:.1f}")


if __name__ == "__main__":
    main()
