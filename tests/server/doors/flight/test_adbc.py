"""ADBC's own Flight SQL driver against the door."""

import threading
from decimal import Decimal
from typing import Any, Literal

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import orjson
import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    ExecutionError,
    ForbiddenError,
    MalformedRecordError,
    PlanError,
    QueryError,
    QueryTimeoutError,
    ReadOnlyError,
    ResourcesError,
    SchemaConflictError,
    ServiceUnavailableError,
    SqlSyntaxError,
    TooBusyError,
    UnknownQueryError,
    UnsupportedTypeError,
)
from tests.server.doors.flight.conftest import ORDERS
from tests.server.fake_service import FakeService, result
from tests.waiting import eventually


def said(error: Any) -> bytes:
    trailer: bytes = dict(error.details)[b"dagfusion-error-bin"]
    return trailer


Status = adbc_driver_manager.AdbcStatusCode


def test_a_statement(adbc: flight_sql.Connection, service: FakeService) -> None:
    with adbc.cursor() as cursor:
        cursor.execute("select * from orders")
        assert cursor.fetch_arrow_table() == ORDERS
        assert cursor.execute("select * from orders").fetchall() == [(1, "a"), (2, None), (3, "c")]
    assert service.asked[-1][1].user == "anonymous"
    assert service.asked[-1][1].door == "flight"


def test_an_empty_result_has_its_columns(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select none"] = result(ORDERS.slice(0, 0))
    with adbc.cursor() as cursor:
        assert cursor.execute("select none").fetch_arrow_table().schema == ORDERS.schema


def test_types_arrive_as_they_are(adbc: flight_sql.Connection, service: FakeService) -> None:
    rows = pa.table(
        {
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(12, 2)),
            "at": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], None], pa.list_(pa.string())),
            "place": pa.array([{"x": 1}, {"x": None}], pa.struct({"x": pa.int64()})),
            "state": pa.array(["CA", "NY"]).dictionary_encode(),
            "raw": pa.array([b"\x00", None], pa.binary()),
            "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    service.results["select types"] = result(rows)
    with adbc.cursor() as cursor:
        found = cursor.execute("select types").fetch_arrow_table()
    assert found.to_pylist() == rows.to_pylist()
    assert [str(field.type) for field in found.schema if field.name != "map"] == [
        str(field.type) for field in rows.schema if field.name != "map"
    ]


@pytest.mark.parametrize(
    ("written", "planned", "names"),
    [
        ("select $1, $2", "select $1, $2", ["1", "2"]),
        ("select ?, ? where '?' = \"?\" -- ?", "select $1, $2 where '?' = \"?\" -- ?", ["1", "2"]),
        ("select $b, $a", "select $b, $a", ["b", "a"]),
    ],
)
def test_parameters(
    adbc: flight_sql.Connection, service: FakeService, written: str, planned: str, names: list[str]
) -> None:
    service.results[planned] = result(ORDERS)
    with adbc.cursor() as cursor:
        cursor.execute(written, (5, "x"))
        assert cursor.fetch_arrow_table() == ORDERS
    params = service.asked[-1][0].params
    assert params is not None
    assert params.to_pylist() == [dict(zip(names, (5, "x"), strict=True))]


def test_a_prepared_statement_runs_with_one_row_after_the_other(
    adbc: flight_sql.Connection, service: FakeService
) -> None:
    service.results["select $1"] = result(ORDERS)
    with adbc.cursor() as cursor:
        for value in (1, 2, None):
            cursor.execute("select ?", (value,))
            assert cursor.fetch_arrow_table() == ORDERS
            params = service.asked[-1][0].params
            assert params is not None
            assert params.to_pylist() == [{"1": value}]


def test_parameters_are_described(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select $1, $2"] = result(ORDERS)
    with adbc.cursor() as cursor:
        described = cursor.adbc_prepare("select ?, ?")
        assert described is not None
        assert described.names == ["1", "2"]
        assert cursor.adbc_execute_schema("select * from orders") == ORDERS.schema


def test_several_rows_of_parameters_are_refused(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select $1"] = result(ORDERS)
    with adbc.cursor() as cursor:
        cursor.adbc_prepare("select ?")
        cursor.adbc_statement.bind_stream(
            pa.RecordBatchReader.from_batches(pa.schema({"0": pa.int64()}), [pa.record_batch({"0": [1, 2]})])
        )
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="one row of parameters, got 2"):
            cursor.adbc_statement.execute_query()


def test_too_few_parameters_are_refused(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select $1, $2"] = result(ORDERS)
    with adbc.cursor() as cursor, pytest.raises(adbc_driver_manager.ProgrammingError, match="has 2 parameters, got"):
        cursor.execute("select ?, ?", (5,))


def test_who_the_server_is(adbc: flight_sql.Connection) -> None:
    info = adbc.adbc_get_info()
    assert (info["vendor_name"], info["vendor_arrow_version"]) == ("DagFusion", pa.__version__)
    assert adbc.adbc_get_table_types() == ["TABLE", "VIEW"]
    assert adbc.adbc_current_catalog == "datafusion"


@pytest.mark.parametrize("depth", ["catalogs", "db_schemas", "tables", "all"])
def test_the_catalog_at_each_depth(
    adbc: flight_sql.Connection, depth: Literal["catalogs", "db_schemas", "tables", "all"]
) -> None:
    [catalog] = adbc.adbc_get_objects(depth=depth).read_all().to_pylist()
    assert catalog["catalog_name"] == "datafusion"
    schemas = catalog["catalog_db_schemas"]
    if depth == "catalogs":
        assert schemas is None
        return
    assert [schema["db_schema_name"] for schema in schemas] == ["prod_sales", "uat_health", "uat_sales"]
    tables = schemas[2]["db_schema_tables"]
    if depth == "db_schemas":
        assert tables is None
        return
    assert [(table["table_name"], table["table_type"]) for table in tables] == [
        ("orders", "TABLE"),
        ("raw_orders", "TABLE"),
    ]
    columns = tables[0]["table_columns"]
    if depth == "tables":
        assert columns is None
        return
    assert [(c["column_name"], c["xdbc_type_name"], c["xdbc_data_type"]) for c in columns] == [
        ("id", "BIGINT", -5),
        ("price", "DECIMAL", 3),
        ("date", "DATE", 91),
    ]


def test_the_catalog_is_filtered(adbc: flight_sql.Connection) -> None:
    def found(**filters: Any) -> list[str]:
        [catalog] = adbc.adbc_get_objects(depth="tables", **filters).read_all().to_pylist() or [{}]
        schemas = catalog.get("catalog_db_schemas", [])
        return [f"{s['db_schema_name']}.{t['table_name']}" for s in schemas for t in s["db_schema_tables"]]

    assert found(table_name_filter="%orders") == ["prod_sales.orders", "uat_sales.orders", "uat_sales.raw_orders"]
    assert found(db_schema_filter="uat_%", table_name_filter="o____s") == ["uat_sales.orders"]
    assert found(catalog_filter="another") == []


def test_a_tables_columns(adbc: flight_sql.Connection) -> None:
    schema = adbc.adbc_get_table_schema("orders", db_schema_filter="uat_sales")
    assert [(field.name, field.type) for field in schema] == [
        ("id", pa.int64()),
        ("price", pa.decimal128(12, 2)),
        ("date", pa.date32()),
    ]
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="NOT_FOUND"):
        adbc.adbc_get_table_schema("nothing")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SqlSyntaxError("syntax error at line 1, column 3: oh", 1, 3), Status.INVALID_ARGUMENT),
        (PlanError("there is no column x"), Status.INVALID_ARGUMENT),
        (ReadOnlyError("only queries can be run here"), Status.INVALID_ARGUMENT),
        (UnknownQueryError("there is no such thing"), Status.NOT_FOUND),
        (ForbiddenError("you may not"), Status.UNAUTHORIZED),
        (QueryTimeoutError("it took too long"), Status.TIMEOUT),
        (ServiceUnavailableError("it is stopping"), Status.IO),
        (TooBusyError("too many queries", 2.5), Status.IO),
        (ResourcesError("too much memory"), Status.UNKNOWN),
        (ExecutionError("1 / 0 divides by zero"), Status.INVALID_ARGUMENT),
        (UnsupportedTypeError("column m is a map"), Status.INVALID_ARGUMENT),
        (SchemaConflictError("column id has two types"), Status.UNKNOWN),  # that is: FAILED_PRECONDITION in the text
        (MalformedRecordError("event 7 has no uri"), Status.UNKNOWN),
        (QueryError("internal"), Status.INTERNAL),
    ],
)
def test_errors_have_their_status(
    adbc: flight_sql.Connection, service: FakeService, error: QueryError, status: Status
) -> None:
    service.results["select"] = result(ORDERS, refused=error)
    with adbc.cursor() as cursor, pytest.raises(adbc_driver_manager.Error) as raised:
        cursor.execute("select")
    assert raised.value.status_code == status
    assert str(error) in str(raised.value)
    assert status is not Status.UNKNOWN or f"{error.grpc_status}: {error}" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert orjson.loads(said(raised.value))["code"] == error.code


def test_a_busy_service_says_when_to_try_again(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select"] = result(ORDERS, refused=TooBusyError("too many queries", 2.5))
    with (
        adbc.cursor() as cursor,
        pytest.raises(adbc_driver_manager.OperationalError, match=r"try again in 2\.5 s") as raised,
    ):
        cursor.execute("select")
    assert b'"retry_after_s":2.5' in said(raised.value)


def test_updates_ingestion_and_transactions_are_refused(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["delete from orders"] = result(ORDERS, refused=ReadOnlyError("this statement is DELETE"))
    with adbc.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="this statement is DELETE"):
            cursor.execute("delete from orders")
        with pytest.raises(adbc_driver_manager.Error, match=r"only queries can be run here"):
            cursor.executemany("select * from orders", [(1,)])
        with pytest.raises(adbc_driver_manager.Error):
            cursor.adbc_ingest("orders", ORDERS)
    with pytest.raises(adbc_driver_manager.NotSupportedError):
        adbc.adbc_connection.set_autocommit(False)  # ADBC's own


def test_cancelling_a_query_that_waits(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select waits"] = result(ORDERS, waits=True)
    with adbc.cursor() as cursor:
        # Not `execute`: ADBC prepares there, which a client cannot cancel.
        cursor.adbc_statement.set_sql_query("select waits")

        def cancel() -> None:
            assert eventually(lambda: service.waiting == 1)
            cursor.adbc_cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(adbc_driver_manager.Error) as raised:
            cursor.adbc_statement.execute_query()
        canceller.join()
    assert raised.value.status_code == Status.CANCELLED
    assert eventually(lambda: service.waiting == 0)


def test_cancelling_a_result_half_way(adbc: flight_sql.Connection, service: FakeService) -> None:
    service.results["select hangs"] = result(ORDERS, hangs=True)
    with adbc.cursor() as cursor:
        cursor.execute("select hangs")
        reader = cursor.fetch_record_batch()
        assert reader.read_next_batch().num_rows == len(ORDERS)
        threading.Timer(0.1, cursor.adbc_cancel).start()
        with pytest.raises((adbc_driver_manager.Error, OSError, pa.ArrowException), match=r"(?i)cancel"):
            reader.read_next_batch()
        assert eventually(lambda: not service.open)


def test_partitions_are_read_by_another_connection(
    adbc: flight_sql.Connection, service: FakeService, door_url: str
) -> None:
    with adbc.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions("select * from orders")
    assert schema == ORDERS.schema
    with flight_sql.connect(door_url, autocommit=True) as other, other.cursor() as cursor:
        for _ in range(2):  # a client may try again
            cursor.adbc_read_partition(partitions[0])
            assert cursor.fetch_arrow_table() == ORDERS
    assert eventually(lambda: not service.open)
