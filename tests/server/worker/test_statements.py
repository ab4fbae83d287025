"""What a worker says when something goes wrong that is no error of the engine's."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

import orjson
import pyarrow as pa
import pytest

from dagfusion_client.documents import codec
from dagfusion_query.engine.engine import Engine
from dagfusion_query.engine.plan_execution import Finished
from dagfusion_query.object_cache.copies import CopyUse, TableFetch
from dagfusion_query.settings import Settings
from dagfusion_server.worker.limits import EXIT_CODE
from dagfusion_server.worker.messages import HEADER, Configuration, Kind, Message, Phase, Statement
from dagfusion_server.worker.result_chunks import ResultChunks
from dagfusion_server.worker.statements import BusyThreadsError, Statements

CONFIGURATION = Configuration(folders=[], memory_bytes=1 << 30, settings={"local": Settings()}, environments={})
STATEMENT = Statement(id="1", sql="SELECT 1", environments={}, grants=["*"], limit_rows=1, limit_bytes=1)


@pytest.fixture
def statements() -> Iterator[Statements]:
    made = Statements(CONFIGURATION, lambda _: None)
    yield made
    made._engine.close()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "resources"), (errno.EDQUOT, "resources"), (errno.EIO, "internal")]
)
def test_a_full_disk_is_no_fault_of_the_program(
    statements: Statements, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/srv/x")

    monkeypatch.setattr(Engine, "prepare", fail)
    sent: list[Any] = []
    statements.run(
        Message(Kind.statement, orjson.loads(codec.encode(STATEMENT))), lambda *messages: sent.extend(messages)
    )

    [[failed]] = sent
    head = orjson.loads(failed[HEADER.size :])
    assert failed[:1] == Kind.failed.value
    assert head["code"] == code
    assert "/srv" not in head["message"]


def test_threads_that_go_on_after_a_statement_end_the_worker_and_no_other_process(
    statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_server.worker.statements.comes_to_rest", lambda _: False)
    cut = replace(STATEMENT, sql="SELECT 1 UNION ALL SELECT 2", limit_bytes=10_000, wanted_rows=1)
    whole = replace(cut, wanted_rows=None, limit_rows=2)
    messages = [Message(Kind.statement, orjson.loads(codec.encode(each))) for each in (cut, whole)]

    statements.run(messages[1], lambda *_: None)  # to its own end, after which nothing can go on
    with pytest.raises(BusyThreadsError):
        statements.run(messages[0], lambda *_: None)

    ended: list[int] = []

    def end(code: int) -> NoReturn:
        ended.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit):
        statements.serve(iter(messages[:1]), lambda *_: None)
    assert ended == [EXIT_CODE]


def test_a_statement_that_waited_for_one_that_left_threads_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service takes a crash of a worker that has begun a statement for that statement's doing."""
    monkeypatch.setattr("dagfusion_server.worker.statements.comes_to_rest", lambda _: False)
    cut = replace(STATEMENT, sql="SELECT 1 UNION ALL SELECT 2", limit_bytes=10_000, wanted_rows=1)
    message = Message(Kind.statement, orjson.loads(codec.encode(cut)))
    phases, sent = list[Phase](), list[Any]()
    statements = Statements(CONFIGURATION, phases.append)
    with pytest.raises(BusyThreadsError):
        statements.run(message, lambda *_: None)
    assert phases[-1] is Phase.resting

    with pytest.raises(BusyThreadsError):
        statements.run(message, lambda *messages: sent.extend(messages))

    assert (phases[-1], sent) == (Phase.resting, [])
    statements._engine.close()


def test_the_last_message_has_the_requests_for_local_copies() -> None:
    rows = pa.table({"n": [1]})
    batches = Finished(rows)
    batches.fetches = [TableFetch("local_default.t", 2, 30, 0.1, 0.2)]
    batches.copies = CopyUse(5, 2)
    sent: list[Any] = []
    statement = replace(STATEMENT, limit_bytes=10_000)
    output = ResultChunks(statement, rows.schema, [], lambda *messages: sent.extend(messages))
    output.finish(first_batch_s=0.1, batches=batches, requests=2)
    [end] = sent[-1]
    assert end[:1] == Kind.end.value
    fetches = [{"table": "local_default.t", "requests": 2, "bytes": 30, "began_s": 0.1, "ended_s": 0.2}]
    head = orjson.loads(end[HEADER.size :])
    assert head["fetches"] == fetches
    assert (head["cost"]["copies_found"], head["cost"]["copies_fetched"]) == (5, 2)
