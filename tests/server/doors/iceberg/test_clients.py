"""DuckDB, PyIceberg and Polars, unmodified, give DagFusion's answers over the same catalog."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError, RESTError

from dagfusion_contract.field_ids import KEY
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import schema_entry
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_server.doors.iceberg import storage_credentials
from tests.doctest.documents import blocks
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, rows_of, running, write_one_row

BOTH = (False, True)
L, X = pa.list_(pa.int64()), pa.struct([("x", pa.int64())])
# Polars says that it plans with PyIceberg, and guesses no region.
pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")


def same(lake: Lake, table: str, columns: Sequence[str], **told: bool) -> list[tuple[Any, ...]]:
    """The rows that all clients give."""
    answers = lake.answers(table, columns, **told)
    for client, rows in answers.items():
        assert rows == answers["dagfusion"], client
    return answers["dagfusion"]


def test_the_life_of_a_partitioned_table(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    """Hostile values, a rewrite, a column more, a wider column, a column that goes, a NULL partition, and a wipe."""
    places = Places(name)
    table = f"uat_default.{name}"
    numbers = pl.int_range(len(HOSTILE)).cast(pl.Int32)
    asset = places.of(HOSTILE, n=numbers, text=pl.lit("é"))
    run = lake.materialize(asset, hive, tags=key_range(HOSTILE[0], HOSTILE[-1]))
    column = partition_column(lake, table)
    first = same(lake, table, [column, "n", "text"])
    assert [row[0] for row in first] == sorted(HOSTILE, key=repr)
    loaded = lake.pyiceberg().load_table(table)
    snapshot = loaded.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["dagster.run-id"] == run

    lake.materialize(places.of(["a/b"], n=pl.lit(2**40), more=pl.lit(1.5)), hive, partition_key="a/b")
    changed = same(lake, table, [column, "n", "text", "more"])
    assert ("a/b", 2**40, None, 1.5) in changed
    assert ("50%", 2, "é", None) in changed
    later = lake.pyiceberg().load_table(table)
    assert ids(later)["n"] == ids(loaded)["n"]
    assert later.metadata.table_uuid == loaded.metadata.table_uuid

    lake.report(name, "none", {**raw(lake, name, pa.table({"n": [7]})), "partition": [partition(column, None)]})
    assert (None, 7, None, None) in same(lake, table, [column, "n", "text", "more"], is_planned=False)
    check_filters(lake, table, column)

    lake.wipe(name)
    with pytest.raises(NoSuchTableError):
        lake.pyiceberg().load_table(table)
    lake.materialize(places.of(["50%"], n=pl.lit(1)), hive, partition_key="50%")
    assert same(lake, table, [column, "n"]) == [("50%", 1)]


def check_filters(lake: Lake, table: str, column: str) -> None:
    loaded, planned = (catalog.load_table(table) for catalog in (lake.pyiceberg(), lake.planning()))
    expected = dict(rows_of(lake.own(f"SELECT {column}, n FROM {table}")))
    assert set(expected) == {*HOSTILE, None}
    with lake.duckdb() as duck:
        for value, n in expected.items():
            text = "NULL" if value is None else "'" + value.replace("'", "''") + "'"
            where = f"{column} IS NOT DISTINCT FROM {text}"
            assert duck.execute(f"SELECT n FROM lake.{table} WHERE {where}").fetchall() == [(n,)], where
            if "'" not in text[1:-1]:  # PyIceberg's own text has no way to write a quote
                filtered = f"{column} IS NULL" if value is None else f"{column} = {text}"
                assert loaded.scan(filtered).to_arrow()["n"].to_pylist() == [n], where
                if value is not None:
                    scan = planned.scan(filtered)
                    assert (scan.to_arrow()["n"].to_pylist(), scan.count()) == ([n], 1), where
    assert planned.scan(f"{column} = '50%' AND n > 100").count() == 0
    # A fault of PyIceberg 0.12, which docs/how-to/iceberg.md warns of: drop the warning when this finds a row.
    assert loaded.scan(f"{column} = '50%'", selected_fields=("n",)).to_arrow().num_rows == 0
    with pytest.raises(RESTError, match="does not read partition values of plans that are NULL"):
        planned.scan().to_arrow()


def test_types_and_unpartitioned_tables(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    table = pa.table(
        {
            "id": [1, 2, 3],
            "u32": pa.array([2**32 - 1, 0, None], pa.uint32()),
            "u8": pa.array([255, 0, None], pa.uint8()),
            "price": pa.array(["1.25", "-99.99", None]).cast(pa.decimal128(6, 2)),
            "day": pa.array(["2024-02-29", "1969-12-31", None]).cast(pa.date32()),
            "local": pa.array(["2024-02-29T12:34:56.789", None, None]).cast(pa.timestamp("ms")),
            "at": pa.array(["2024-02-29T12:34:56.123456Z", None, None]).cast(pa.timestamp("us", "UTC")),
            "flag": [True, False, None],
            "raw": [b"\0\xff", b"", None],
            "list": [[1, None], [], None],
            "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}, None],
            "big": pa.array([2**64 - 1, 0, None], pa.uint64()),
        }
    )

    @dg.asset(name=name)
    def made() -> pa.Table:
        return table

    lake.materialize(made, flat)
    full = f"uat_default.{name}"
    columns = [column for column in table.column_names if column != "big"]
    assert len(same(lake, full, columns, is_for_spark=False)) == 3
    assert len(same(lake, full, ["id", "u8", "price", "day", "at", "flag", "raw"])) == 3
    loaded = lake.pyiceberg().load_table(full)
    assert "big" not in loaded.schema().column_names
    assert loaded.properties["dagfusion.left-out.big"].startswith("its type is uint64")
    with lake.duckdb() as duck:
        assert duck.execute(f"SELECT count(*), sum(u32) FROM lake.{full} WHERE id > 1").fetchall() == [(2, 0)]


def test_a_refused_write_leaves_no_object_among_the_tables(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """Engines write files before they commit, and may not delete them when the commit is refused."""

    @dg.asset(name=name)
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    lake.materialize(made, flat)
    before = objects(lake)
    loaded = lake.pyiceberg().load_table(f"uat_default.{name}")
    with pytest.raises((RESTError, NotImplementedError)):
        loaded.append(pa.table({"n": [2]}))
    assert objects(lake) == before
    assert loaded.properties["gc.enabled"] == "false", "its location is that of other tables, too"


def objects(lake: Lake) -> set[str]:
    """The objects beside the metadata."""
    listed = (one["path"] for some in obstore.list(lake.store, prefix="iceberg") for one in some)
    return {path for path in listed if not path.startswith("iceberg/_iceberg/")}


def test_what_a_token_may_not_read_does_not_exist(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    write_one_row(lake, flat, name, f"{name}_secret")
    secret = lake.tokens.create(name, [f"uat_default.{name}"])
    try:
        login = {"credential": f"anybody:{secret}", "oauth2-server-uri": f"{lake.url}/v1/oauth/tokens"}
        for properties in ({"token": secret}, login):
            catalog = lake.pyiceberg(auth=None, **properties)
            assert catalog.list_namespaces() == [("uat_default",)]
            assert catalog.list_tables("uat_default") == [("uat_default", name)]
            assert catalog.table_exists(f"uat_default.{name}")
            assert not catalog.table_exists(f"uat_default.{name}_secret")
            with pytest.raises(NoSuchTableError):
                catalog.load_table(f"uat_default.{name}_secret")
            with pytest.raises((ForbiddenError, NotImplementedError)):
                catalog.drop_table(f"uat_default.{name}")
        for options in (f"TOKEN '{secret}'", f"CLIENT_ID 'anybody', CLIENT_SECRET '{secret}'"):
            with lake.duckdb(options) as duck:
                assert duck.execute(f"SELECT * FROM lake.uat_default.{name}").fetchall() == [(1,)]
                assert duck.execute(
                    "SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'"
                ).fetchall() == [(name,)]
    finally:
        lake.tokens.path.unlink()


class Sts:
    """Stands in for AWS's STS: the session that it gives has the keys of the test's server."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        keys = {"AccessKeyId": fields["access_key_id"], "SecretAccessKey": fields["secret_access_key"]}
        self._keys = {**keys, "SessionToken": "", "Expiration": datetime.now(UTC) + timedelta(hours=1)}

    def assume_role(self, **_: Any) -> Mapping[str, Any]:
        return {"Credentials": self._keys}

    def close(self) -> None: ...


def test_credentials_of_a_role(
    lake: Lake,
    hive: PartitionedS3ParquetIOManager,
    name: str,
    *,
    tmp_path: Path,
    s3_fields: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients use credentials that are for two folders of a bucket, the table's and its metadata's."""

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), metadata={"partition_expr": "place"})
    def made() -> pl.DataFrame:
        return pl.DataFrame({"place": ["a", "b"], "n": [1, 2]})

    lake.materialize(made, hive, tags=key_range("a", "b"))
    monkeypatch.setattr(storage_credentials, "aws_client", lambda *_, **__: Sts(s3_fields))
    role = "arn:aws:iam::123456789012:role/iceberg-clients"
    home = Path(lake.config.environments[0].settings.event_log or "")
    with running(home, tmp_path, s3_fields, "iceberg", lake.spark, DAGFUSION_ICEBERG_CREDENTIALS=role) as other:
        assert same(other, f"uat_default.{name}", ["place", "n"]) == [("a", 1), ("b", 2)]


def test_files_with_ids_and_partition_columns(lake: Lake, s3_fields: dict[str, Any], name: str) -> None:
    """Files of four kinds in one table, whose columns change; the ids in files are those of the catalog."""
    frames = {
        "a": pa.table({"gone": [1], "n": pa.array([1], pa.int32()), "list": [[1]], "struct": [{"x": 1}]}),
        "b": pa.table({"n": pa.array([2], pa.int32()), "list": [[2, None]], "struct": [{"x": 2}]}),
        "c": pa.table({"struct": [{"x": 3}], "more": ["é"], "list": pa.array([[]], L), "n": [2**40]}),
        "d": pa.table({"more": ["d"], "n": [4], "struct": pa.array([{"x": None}], X), "gone": [4], "list": [[4]]}),
    }

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition([*frames]), metadata={"partition_expr": "place"})
    def made(context: dg.AssetExecutionContext) -> pa.Table:
        return frames[context.partition_key]

    kinds: list[dict[str, Any]] = [{"field_ids": a, "partition_columns_in_files": b} for a in BOTH for b in BOTH]
    for place, options in zip(frames, kinds, strict=True):
        manager = PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg", **options)
        lake.materialize(made, manager, partition_key=place)
    table = f"uat_default.{name}"
    rows = same(lake, table, ["place", "n", "more", "gone", "list", "struct"])
    assert rows == [
        ("a", 1, None, 1, [1], {"x": 1}),
        ("b", 2, None, None, [2, None], {"x": 2}),
        ("c", 2**40, "é", None, [], {"x": 3}),
        ("d", 4, "d", 4, [4], {"x": None}),
    ]
    loaded = lake.pyiceberg().load_table(table)
    found = pq.read_schema(pa.BufferReader(obstore.get(lake.store, f"iceberg/{name}/place=d/data.parquet").bytes()))
    assert {field.name: int(field.metadata[KEY]) for field in found} == ids(loaded)
    with lake.duckdb() as duck:
        for place, n, *_ in rows:
            for where in (f"place = '{place}'", f"n = {n}"):
                assert duck.execute(f"SELECT place, n FROM lake.{table} WHERE {where}").fetchall() == [(place, n)]
                assert loaded.scan(where).to_arrow()["n"].to_pylist() == [n]


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint32(), pa.uint64(), pa.decimal128(9, 2), pa.bool_(), pa.date32()])
def test_partition_columns_of_types_in_files(lake: Lake, s3_fields: dict[str, Any], name: str, kind: Any) -> None:
    key = {pa.bool_(): "true", pa.date32(): "2024-02-29"}.get(kind, "200")

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition([key]), metadata={"partition_expr": "part"})
    def made() -> pa.Table:
        return pa.table({"part": pa.array([key]).cast(kind), "n": [1]})

    options: dict[str, Any] = {"field_ids": True, "partition_columns_in_files": True}
    manager = PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg", **options)
    lake.materialize(made, manager, partition_key=key)
    is_planned = kind not in (pa.uint64(), pa.decimal128(9, 2))
    assert len(same(lake, f"uat_default.{name}", ["part", "n"], is_planned=is_planned)) == 1


def test_the_statements_of_the_guide(lake: Lake, hive: PartitionedS3ParquetIOManager) -> None:
    states = dg.StaticPartitionsDefinition(["CA"])

    @dg.asset(
        key=["Silver", "TaxID", "partitioned_organizations"],
        partitions_def=states,
        metadata={"partition_expr": "state"},
    )
    def made() -> pl.DataFrame:
        return pl.DataFrame({"npi": [1, 2]})

    lake.materialize(made, hive, partition_key="CA")
    code = (block.code for block in blocks(Path("docs/how-to/iceberg.md")) if block.language == "sql")
    _, attach, select = next(code).splitlines()
    secret = lake.tokens.create("guide", ["uat"])
    try:
        with lake.duckdb(f"TOKEN '{secret}'") as duck:  # this has the extensions, which INSTALL would download
            duck.execute("DETACH lake")
            duck.execute(attach.replace("http://localhost:8080/iceberg", lake.url).replace("dft_...", secret))
            assert duck.execute(select).fetchall() == [(2,)]
    finally:
        lake.tokens.path.unlink()


def raw(lake: Lake, name: str, table: pa.Table) -> dict[str, Any]:
    """Write an object, and return its record without a partition."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content, key = sink.getvalue().to_pybytes(), f"iceberg/raw/{name}.parquet"
    obstore.put(lake.store, key, content)
    return {
        "version": 1,
        "uri": f"s3://lake/{key}",
        "size_bytes": len(content),
        "etag": None,
        "modified": "2024-01-15T12:00:00.123456Z",
        "rows": len(table),
        "partition": [],
        "schema": schema_entry(table.schema),
        "columns": {},
    }


def partition(name: str, value: str | None) -> dict[str, Any]:
    return {"name": name, "type": "string", "value": value}


def partition_column(lake: Lake, table: str) -> str:
    (field,) = lake.pyiceberg().load_table(table).spec().fields
    return str(field.name)


def ids(table: Any) -> dict[str, int]:
    return {field.name: field.field_id for field in table.schema().fields}


def test_plans_of_dates_and_times(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    """PyIceberg takes what a plan says of them as numbers; of text it would read no rows."""

    @dg.asset(name=name, partitions_def=dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_offset=0))
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"hour": [context.partition_time_window.start.replace(tzinfo=None)], "n": [1]})

    for hour in ("2024-01-01-05:00", "2024-01-02-05:00"):
        lake.materialize(made, hive, partition_key=hour)
    table = f"uat_default.{name}"
    column = partition_column(lake, table)
    assert len(same(lake, table, [column, "n"])) == 2
    planned = lake.planning().load_table(table)
    scan = planned.scan(f"{column} >= '2024-01-02T00:00:00'")
    assert len(list(scan.plan_files())) == 1
    assert (scan.count(), len(scan.to_arrow())) == (1, 1)
    first = planned.current_snapshot()
    assert first is not None
    lake.materialize(made, hive, partition_key="2024-01-03-05:00")
    assert lake.planning().load_table(table).scan().count() == 3
    assert planned.scan(snapshot_id=first.snapshot_id).count() == 2, "a plan is of the snapshot that is asked for"


def test_views(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """PyIceberg loads a view; engines that know no statement of its dialect still read the tables beside it."""

    @dg.asset(name=name)
    def made() -> pl.DataFrame:
        return pl.DataFrame({"id": [1]})

    lake.materialize(made, flat)
    sql, columns = f"SELECT id FROM uat_default.{name}", pa.schema({"id": pa.int64()})
    entry = view_entry(View(sql, (TableName("uat_default", name),), columns))
    metadata = {VIEW_ENTRY: dg.MetadataValue.json(entry)}
    lake.instance.report_runless_asset_event(dg.AssetMaterialization(f"{name}_view", metadata=metadata))
    lake.environments.refresh(PATIENCE_S)
    catalog = lake.pyiceberg()
    assert ("uat_default", f"{name}_view") in catalog.list_views("uat_default")
    assert ("uat_default", f"{name}_view") not in catalog.list_tables("uat_default")
    loaded = catalog.load_view(f"uat_default.{name}_view")
    statements = {one.root.dialect: one.root.sql for one in loaded.metadata.versions[0].representations}
    assert statements == {"datafusion": sql, "spark": f"SELECT id FROM `uat_default`.`{name}`"}
    assert catalog.view_exists(f"uat_default.{name}_view")
    assert not catalog.view_exists(f"uat_default.{name}")
    with lake.duckdb() as duck:
        assert duck.execute(f"SELECT * FROM lake.uat_default.{name}").fetchall() == [(1,)]
        listed = duck.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'").fetchall()
        assert (name,) in listed
        assert (f"{name}_view",) not in listed
