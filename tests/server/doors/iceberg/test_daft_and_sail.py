"""Daft, and Sail as a cluster in one process, unmodified, give DagFusion's answers over the Iceberg catalog."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import RemoteEngineError
from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_query import connect
from tests.interop.spark import conftest as spark
from tests.interop.spark.answers import same
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.server.doors.iceberg.lake import Lake, rows_of
from tests.server.doors.iceberg.other_clients import Client, ClientError, Sail
from tests.server.doors.iceberg.test_clients import partition, raw
from tests.server.doors.iceberg.test_clients_during_rewrites import (
    Read,
    read_what_was_loaded_before,
    read_while_runs_write,
    rewriting,
)

PLACE = "place"
COLUMNS = [PLACE, "n", "more", "gone"]
REFUSALS = (ClientError, RemoteEngineError)
STATEMENTS = (
    "SELECT place, n, more, gone FROM {}",
    "SELECT more, count(*) AS c, count(gone) AS g, sum(n) AS s, min(place) AS p FROM {} GROUP BY more",
    "SELECT place, n FROM {} WHERE n > 2 AND place <> 'x=1' ORDER BY n DESC LIMIT 4",
    "SELECT n FROM {} WHERE place IS NULL OR more = 'é'",
    "SELECT a.place, b.n FROM {} a JOIN {} b ON a.n = b.n WHERE a.gone = 1",
    "SELECT place, row_number() OVER (ORDER BY n DESC, gone) AS r FROM {}",
)
pytestmark = pytest.mark.usefixtures("long")


@pytest.fixture(params=["daft", "sail"])
def client(request: pytest.FixtureRequest, processes: None) -> Client:  # noqa: ARG001  # each is one
    found: Client = request.getfixturevalue(request.param)
    return found


class Evolving:
    """A table with hostile values, whose columns change.

    Attributes:
        table: Its name.
    """

    def __init__(self, lake: Lake, fields: Mapping[str, Any], name: str, client: Client) -> None:
        self._lake, self._name, self.table = lake, name, f"uat_default.{name}"
        # Sail 0.7.2 does not find objects whose names have what a URL has to escape, such as a space.
        self.values = values = spark.HOSTILE if isinstance(client, Sail) else HOSTILE
        self._manager = PartitionedS3ParquetIOManager(**fields, prefix="iceberg", **client.options)
        self._places = Places(name, values, PLACE)

    def write(self, *places: str, **columns: Any) -> None:
        """Write partitions again, a row each."""
        asset = self._places.of(places, **columns)
        self._lake.materialize(asset, self._manager, tags=key_range(places[0], places[-1]))

    def fill(self) -> None:
        """Write all partitions; then one with a column that is wider, one more, and one less; and a NULL partition."""
        self.write(*self.values, gone=pl.lit(1, pl.Int64), n=pl.int_range(len(self.values)).cast(pl.Int32))
        self.write("a/b", n=pl.lit(2**40), more=pl.lit("é"))
        objects = obstore.list(self._lake.store, f"iceberg/{self._name}").collect()
        content = obstore.get(self._lake.store, objects[0]["path"]).bytes()
        nowhere = pa.Table.from_pylist([{PLACE: None, "n": 7}], pq.read_schema(pa.BufferReader(content)))
        partitioned = {**raw(self._lake, self._name, nowhere), "partition": [partition(PLACE, None)]}
        self._lake.report(self._name, "none", partitioned)


@pytest.fixture
def evolving(lake: Lake, s3_fields: dict[str, Any], name: str, client: Client) -> Evolving:
    return Evolving(lake, s3_fields, name, client)


def test_the_life_of_a_table(lake: Lake, evolving: Evolving, name: str, client: Client) -> None:
    """Hostile values, a NULL partition, a rewrite, columns that are added, widened and dropped, and a wipe."""
    table = evolving.table
    evolving.fill()
    expected = rows_of(lake.own(f"SELECT {', '.join(COLUMNS)} FROM {table}"))
    assert {row[0] for row in expected} == {*evolving.values, None}
    assert ("a/b", 2**40, "é", None) in expected
    assert rows_of(client.read(table, COLUMNS)) == expected
    before = client.loaded(table, COLUMNS)
    lake.wipe(name)
    with pytest.raises(REFUSALS):
        client.read(table, COLUMNS)
    assert rows_of(before()) == expected, "its objects are there until the vacuum"
    evolving.write("50%", n=pl.lit(1))
    assert rows_of(client.read(table, [PLACE, "n"])) == [("50%", 1)]


@pytest.mark.parametrize("naming", ["per_run", "stable"])
def test_rewrites(lake: Lake, s3_fields: dict[str, Any], name: str, naming: str, client: Client) -> None:
    for part, check in enumerate((read_what_was_loaded_before, read_while_runs_write)):
        rewrite = rewriting(lake, s3_fields, f"{name}_{part}", naming, client.options)
        check(partial(planned, client, f"uat_default.{name}_{part}"), rewrite, naming)


@contextmanager
def planned(client: Client, table: str) -> Iterator[Mapping[str, Read]]:
    """Let a client load a table; yield what reads the snapshot that it loaded."""
    read = client.loaded(table, ["place", "n"])
    yield {type(client).__name__: lambda: rows_of(read())}


@pytest.mark.parametrize("client", ["sail"], indirect=True)
def test_statements_of_a_service_on_a_cluster_in_one_process(
    lake: Lake,
    evolving: Evolving,
    client: Client,  # noqa: ARG001  # Sail
    sail: Sail,
) -> None:
    evolving.fill()
    metadata = lake.config.environments[0].own.iceberg_metadata or ""
    variables = {"DAGFUSION_ICEBERG_METADATA": metadata, "DAGFUSION_SPARK_REMOTE": sail.remote}
    with connect(settings={**lake.variables, **variables}) as connection:
        for sql in STATEMENTS:
            assert same(connection, sql.format(*[evolving.table] * 2)), sql
        for value in (*evolving.values, "none"):
            found = same(connection, f"SELECT n FROM {evolving.table} WHERE place = $1", [value])
            assert len(found) == (value != "none"), value


def test_sail_does_not_find_what_a_url_escapes(lake: Lake, s3_fields: dict[str, Any], name: str, sail: Sail) -> None:
    """A limit of Sail 0.7.2 that docs/how-to/distributed.md tells of: an error, and no other rows."""
    evolving = Evolving(lake, s3_fields, name, sail)
    evolving.write("a/b", n=pl.lit(1))
    unfound = {**raw(lake, f"{name} with a space", pa.table({"n": [2]})), "partition": [partition(PLACE, "a b")]}
    lake.report(name, "a b", unfound)
    assert sorted(lake.own(f"SELECT n FROM {evolving.table}")["n"].to_pylist()) == [1, 2]
    with pytest.raises(RemoteEngineError, match="the Spark engine cannot run the statement"):
        sail.read(evolving.table, ["n"])
