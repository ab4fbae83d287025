"""The data set: `partitioned_organizations` for some days and all fifty states, materialized through Dagster."""

import contextlib
import datetime as dt
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import dagster as dg
import obstore
import polars as pl
from obstore.store import S3Store

from benchmarks.workload import QUERIES, STATE, Query, Row, rows
from dagfusion_pipeline import build_consolidate_job
from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.wipe import wipe_partitions
from dagfusion_query.connection import connect_embedded
from dagfusion_reference.defs.partitions import FIRST_DAY
from dagfusion_reference.defs.resources import resources
from dagfusion_reference.defs.states import CODES
from dagfusion_stack import dagster, documented_queries, lake, materialize
from dagfusion_stack.settings import Settings
from dagfusion_stack.stores import running_stores
from dagfusion_stack.supervisor import child_environ

TABLE = documented_queries.ORGANIZATIONS
REGISTER = documented_queries.REGISTER
BUCKET = "dagfusion-bench"
PREFIX = "datafusion_test"
FOLDER = "/".join([PREFIX, *materialize.ASSETS[TABLE]])
LARGE = f"{PREFIX}/_consolidated/"

Say = Callable[[str], None]

_PLAIN = materialize.Way(checks=False)  # as `dagfusion seed` does it


@dataclass(frozen=True)
class Place:
    """The location of the data set, as variables of an engine."""

    variables: Mapping[str, str]

    @property
    def bucket(self) -> str:
        return self.variables["S3_BUCKET"]

    @property
    def endpoint(self) -> str:
        return self.variables["AWS_ENDPOINT_URL"]

    @property
    def region(self) -> str:
        return self.variables["AWS_REGION"]

    @property
    def access_key_id(self) -> str:
        return self.variables["AWS_ACCESS_KEY_ID"]

    @property
    def secret_access_key(self) -> str:
        return self.variables["AWS_SECRET_ACCESS_KEY"]

    @property
    def event_log(self) -> str:
        return self.variables["DAGFUSION_EVENT_LOG"]

    @property
    def url(self) -> str:
        """The table's folder, with a slash at its end."""
        return f"s3://{self.bucket}/{FOLDER}/"

    def behind(self, endpoint: str) -> "Place":
        """The same place, reached through another endpoint."""
        return replace(self, variables={**self.variables, "AWS_ENDPOINT_URL": endpoint})

    def store(self) -> S3Store:
        """A client of the bucket."""
        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            client_options={"allow_http": True},
        )


@dataclass(frozen=True)
class Dataset:
    """A complete data set on running servers."""

    place: Place
    days: int
    states: int
    home: Path
    instance: dg.DagsterInstance

    @property
    def partitions(self) -> int:
        return self.days * self.states

    def files(self, query: Query) -> int:
        """How many partitions the query's filters on partition columns leave."""
        return query.files(self.days, self.states)

    def missing_partition(self) -> tuple[str, dt.date]:
        """A state and a day that are not there."""
        return STATE, FIRST_DAY + dt.timedelta(days=self.days)

    @contextlib.contextmanager
    def one_more_partition(self) -> Iterator[None]:
        """Materialize the missing partition; at the end, wipe it and delete its object."""
        state, day = self.missing_partition()
        run = materialize.Run(TABLE, 1, f"{day}|{state}", f"{day}|{state}")
        materialize.materialize(run, self.instance, self.place.variables, _PLAIN)
        try:
            yield
        finally:
            obstore.delete(self.place.store(), f"{FOLDER}/state={state}/date={day}/data.parquet")
            # A deleted run leaves no event: catalogs would have the partition until their next full read.
            wipe_partitions(self.instance, dg.AssetKey([*materialize.ASSETS[TABLE]]), [f"{day}|{state}"])

    @contextlib.contextmanager
    def consolidated(self) -> Iterator[dict[str, int]]:
        """Consolidate the table, give the number and bytes of its large objects, and undo it at the end."""
        manager = resources(Environment.read(self.place.variables))["hive_parquet"]
        key = dg.AssetKey([*materialize.ASSETS[TABLE]])
        job = build_consolidate_job([key], io_manager_key="hive_parquet")
        run = job.execute_in_process(materialize.NO_CONSOLE_LOG, self.instance, resources={"hive_parquet": manager})
        try:
            found = [meta for batch in obstore.list(self.place.store(), LARGE) for meta in batch]
            yield {"objects": len(found), "bytes": sum(meta["size"] for meta in found)}
        finally:
            # Its catalogs find the objects gone, and read the small ones.
            self.instance.delete_run(run.run_id)
            obstore.delete(self.place.store(), [meta["path"] for meta in found])

    def answers(self) -> dict[str, list[Row]]:
        """Compute every query's answer from the stored objects, without a catalog; kept with the data."""
        folder = self.home / "answers"
        folder.mkdir(exist_ok=True)
        kept = {query.name: folder / f"{query.name}-{zlib.crc32(query.sql.encode()):08x}.parquet" for query in QUERIES}
        if not all(file.exists() for file in kept.values()):
            stored = self._stored().lazy()
            for query in QUERIES:
                query.polars(stored).collect().write_parquet(kept[query.name])
        return {name: rows(pl.read_parquet(file).to_arrow()) for name, file in kept.items()}

    def _stored(self) -> pl.DataFrame:
        keys = {TABLE: "/".join(materialize.ASSETS[TABLE])}
        return lake.read(self.place.variables, keys, lambda _: None)[TABLE].rows


@contextlib.contextmanager
def running(home: Path, days: int, say: Say, store: Mapping[str, str] | None = None) -> Iterator[Dataset]:
    """Run the servers over `home`, with every partition of the data set there.

    Args:
        home: The state folder; what it holds already is not made again.
        days: How many days from the first.
        say: Takes one line of progress.
        store: The AWS_* variables of another S3 server to use instead of the embedded one.

    Raises:
        ValueError: The folder holds another data set.
    """
    with servers(home, say) as (embedded, instance):
        data = Dataset(Place({**embedded, **(store or {})}), days, len(CODES), home, instance)
        _fill(data, say)
        yield data


@contextlib.contextmanager
def servers(home: Path, say: Say) -> Iterator[tuple[Mapping[str, str], dg.DagsterInstance]]:
    """Run PostgreSQL and the S3 server over `home`, and give their variables and Dagster's instance on them."""
    settings = Settings(home=home, bucket=BUCKET)
    with (
        _environ(),
        running_stores(settings, "bench", say) as variables,
        materialize.instance(Path(variables["DAGSTER_HOME"])) as instance,
    ):
        yield variables, instance


def create_bucket(variables: Mapping[str, str]) -> None:
    """Create the data set's bucket on another S3 server."""
    client = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    with contextlib.closing(client):
        client.create_bucket(Bucket=BUCKET)


def _fill(data: Dataset, say: Say) -> None:
    with connect_embedded(settings=data.place.variables) as connection:
        have = {str(name): set(t.files["partition_key"].to_pylist()) for name, t in connection.snapshot.tables.items()}
        runs = materialize.plan(have, materialize.Extent(data.days, data.states))
        for run in runs:
            if run.table in (REGISTER, TABLE):
                say(f"Materializing {run.partitions} partitions of {run.table}")
                materialize.materialize(run, data.instance, data.place.variables, _PLAIN)
        connection.refresh()
        [found] = [info.partitions for info in connection.tables() if info.name == TABLE]
    if found != data.partitions:
        raise ValueError(
            f"{data.home} must hold {data.partitions} partitions of {TABLE}, got {found}: remove the folder"
        )


@contextlib.contextmanager
def _environ() -> Iterator[None]:
    """Give this process what the stack's own processes have: no other store's settings, no proxy, events in batches."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(child_environ(before, dagster.RUN_ENVIRON))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
