"""What a worker says when something goes wrong that is no error of the engine's."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from dagfusion_query.engine.engine import Engine
from dagfusion_query.worker.protocol import HEADER, Frame, Kind
from dagfusion_query.worker.statements import Statements

HEAD = {"folders": [], "memory_bytes": 1 << 30, "settings": {"local": {}}}
STATEMENT = {"id": "1", "sql": "SELECT 1", "mode": "run", "environments": {}, "grants": ["*"]}


@pytest.fixture
def statements() -> Iterator[Statements]:
    made = Statements(HEAD, lambda _: None)
    yield made
    made._engine.close()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "resources"), (errno.EDQUOT, "resources"), (errno.EIO, "query")]
)
def test_a_full_disk_is_no_fault_of_the_program(
    statements: Statements, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/srv/x")

    monkeypatch.setattr(Engine, "prepare", fail)
    sent: list[Any] = []
    statements.run(Frame(Kind.statement, STATEMENT), lambda *frames: sent.extend(frames))

    [[failed]] = sent
    head = orjson.loads(failed[HEADER.size :])
    assert failed[:1] == Kind.failed.value
    assert head["code"] == code
    assert "/srv" not in head["text"]
