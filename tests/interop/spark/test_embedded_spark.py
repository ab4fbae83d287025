"""Statements of an embedded connection on a Spark Connect server: what they need, and how they end."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    ConnectionClosedError,
    EngineChoiceError,
    RemoteEngineUnavailableError,
    SettingsError,
)
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.spark import embedded_spark
from dagfusion_interop.spark.pinned_tables import pinned_version
from dagfusion_interop.spark.spark_batches import SparkBatches
from dagfusion_query.connection import EmbeddedConnection
from tests.waiting import PATIENCE_S

TABLE = "local_default.orders"
SQL = f"SELECT amount FROM {TABLE}"
Write = Callable[..., None]
Connect = Callable[..., EmbeddedConnection]


class SentStatement:
    """A statement on a server that answers nothing until it is cancelled."""

    server, is_unread = "the Spark engine", False

    def __init__(self) -> None:
        self.began, self.is_cancelled = threading.Event(), threading.Event()

    def batches(self) -> Iterator[pa.RecordBatch]:
        self.began.set()
        self.is_cancelled.wait(PATIENCE_S)
        yield from ()

    def cancel(self) -> None:
        self.is_cancelled.set()

    def close(self) -> None:
        pass


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> SentStatement:
    """The statement that a connection sends to a server."""
    statement = SentStatement()
    monkeypatch.setattr(embedded_spark, "sent_statement", lambda *_, **__: statement)
    monkeypatch.setattr(embedded_spark, "interrupted", lambda *_: True)
    return statement


@pytest.fixture
def connection(write: Write, connect: Connect, tmp_path: Path) -> EmbeddedConnection:
    """A connection with a server that is not there."""
    write("2024-01-01", [1, 2])
    return connect(
        DAGFUSION_SPARK_REMOTE="sc://127.0.0.1:1",
        DAGFUSION_ICEBERG_METADATA=f"file://{tmp_path}/_iceberg",
        DAGFUSION_SPARK_AUTO_BYTES="1",
        DAGFUSION_WORKERS="many",  # of a service, which is not here
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r'engine="spark" needs .* set DAGFUSION_SPARK_REMOTE, .* or use engine="local"'),
        (
            {"DAGFUSION_SPARK_REMOTE": "sc://127.0.0.1:1"},
            "no folder for metadata: set DAGFUSION_ICEBERG_METADATA",
        ),
    ],
)
def test_the_spark_engine_needs_settings(
    write: Write, connect: Connect, settings: dict[str, str], message: str
) -> None:
    write("2024-01-01", [1, 2])
    connection = connect(**settings, DAGFUSION_SPARK_AUTO_BYTES="1")
    sql = f"SELECT sum(amount) AS total FROM {TABLE}"
    with pytest.raises(EngineChoiceError, match=message):
        connection.sql(sql, engine="spark")
    assert connection.sql(sql, engine="auto").to_arrow().to_pylist() == [{"total": 3}]
    with pytest.raises(SettingsError, match="DAGFUSION_SPARK_REMOTE must be sc://"):
        connect(DAGFUSION_SPARK_REMOTE="http://x").sql(sql, engine="spark")
    with pytest.raises(EngineChoiceError, match="remove the selection"):
        connection.sql(sql, engine="spark", selections=[])


def test_a_spark_engine_that_is_not_there(connection: EmbeddedConnection, tmp_path: Path) -> None:
    for engine in ("spark", "auto"):
        with pytest.raises(RemoteEngineUnavailableError):
            connection.sql(SQL, engine=engine).to_arrow()
    assert [*(tmp_path / "_iceberg").rglob("*.metadata.json")]


@pytest.mark.parametrize("engine", ["spark", "auto"])
def test_a_statement_that_its_caller_interrupts_is_cancelled(
    connection: EmbeddedConnection, sent: SentStatement, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(SparkBatches, "wait", Mock(side_effect=KeyboardInterrupt))
    moment = Mock(side_effect=connection._past.moment)
    monkeypatch.setattr(connection._past, "moment", moment)
    with pytest.raises(KeyboardInterrupt):
        connection.sql(SQL, engine=engine, as_of=connection.snapshot.generation)
    assert sent.is_cancelled.wait(PATIENCE_S)
    moment.assert_called_once()  # a second one may be another state


def test_a_statement_as_of_a_past_event_forgets_no_metadata(
    connection: EmbeddedConnection, sent: SentStatement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot has only the tables that it names: none of `SELECT 1`."""
    sent.cancel()  # so that the statements end
    forget = Mock()
    monkeypatch.setattr(Publisher, "forget_dropped", forget)
    for sql in (SQL, "SELECT 1"):
        connection.sql(sql, engine="spark", as_of=connection.snapshot.generation)
    forget.assert_not_called()
    connection.sql("SELECT 1", engine="spark")
    forget.assert_called_once_with(connection.snapshot)


def test_nothing_is_sent_after_close(
    connection: EmbeddedConnection, sent: SentStatement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(*_: object, **__: object) -> SentStatement:
        connection.close()
        return sent

    monkeypatch.setattr(embedded_spark, "sent_statement", close)
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            connection.sql(SQL, engine="spark")
    assert not sent.began.is_set()


def test_metadata_that_is_written_beside_close(
    connection: EmbeddedConnection, sent: SentStatement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads that write it end before they have begun."""

    def pinned(*arguments: Any) -> str:
        connection.close()
        return pinned_version(*arguments)

    monkeypatch.setattr(embedded_spark, "pinned_version", pinned)
    with pytest.raises(ConnectionClosedError):
        connection.sql(SQL, engine="spark")
    assert not sent.began.is_set()
