"""Readers of partitions that are rewritten all the time: no answer mixes versions, and every error names its object.

The test takes some seconds for each kind of names. DAGFUSION_REWRITING_S is for how long it shall run instead.
"""

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from dagfusion_client.errors import StaleObjectError
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_stack import object_store
from tests.e2e.rewriting import FIRST, PARTITIONS, ROWS, TABLE, materialize, rewriting
from tests.server.processes.process import served

SECONDS = float(os.environ.get("DAGFUSION_REWRITING_S", "8"))
BUCKET = "lake"
READERS = 4  # of each connection, and of each service
PAUSE_S = 0.05  # between two queries of a reader, so that the writer gets its share of the machine

Row = Mapping[str, Any]
Ask = Callable[[str], list[Row]]


def mixed(rows: list[Row], columns: tuple[str, ...] = ("x", "y", "name")) -> list[Row]:
    """The rows whose columns are of several versions."""
    return [row for row in rows if len({int(row[column]) for column in columns}) != 1]


def check_rows(ask: Ask, turn: int) -> list[Row]:
    """Rows of one partition, by columns that are read apart."""
    rows = ask(f"SELECT x, y, name, noise FROM {TABLE} WHERE partition = '{PARTITIONS[turn % len(PARTITIONS)]}'")
    assert len(rows) == ROWS
    versions = {row["x"] for row in rows}
    return mixed(rows) or ([{"versions": versions}] if len(versions) != 1 else [])


def check_groups(ask: Ask, turn: int) -> list[Row]:
    """Scanned aggregates of all partitions."""
    del turn
    sides = [f"{bound}({column})" for column in ("x + 0", "y + 0", "CAST(name AS BIGINT)") for bound in ("min", "max")]
    listed = ", ".join(f"{side} AS c{number}" for number, side in enumerate(sides))
    rows = ask(f"SELECT partition AS p, count(noise + 0) AS n, {listed} FROM {TABLE} GROUP BY partition")
    assert {row["p"]: row["n"] for row in rows} == dict.fromkeys(PARTITIONS, ROWS)
    return mixed(rows, tuple(f"c{number}" for number in range(len(sides))))


def check_sides(ask: Ask, turn: int) -> list[Row]:
    """What the catalog's bounds decide beside what only the rows decide."""
    bound = FIRST + 2 + turn // 2
    (row,) = ask(
        f"SELECT (SELECT count(*) FROM {TABLE} WHERE x >= {bound}) AS known, "
        f"(SELECT count(noise + 0) FROM {TABLE} WHERE x + 0 >= {bound}) AS scanned, "
        f"(SELECT max(x) FROM {TABLE}) AS largest, (SELECT max(x + 0) FROM {TABLE}) AS seen"
    )
    return [row] if row["known"] != row["scanned"] or row["largest"] != row["seen"] else []


CHECKS = (check_rows, check_groups, check_sides)


@dataclass
class Seen:
    """What the readers of one kind saw."""

    answers: int = 0
    stale: int = 0
    cut: int = 0
    mixtures: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.answers} answers, {self.stale} stale, {self.cut} cut off, {len(self.mixtures)} mixtures, "
            f"{len(self.failures)} failures, slowest {self.slowest_s:.1f} s"
        )


def read(ask: Ask, seen: Seen, stop: threading.Event, first: int) -> None:
    """Ask again and again."""
    for turn in itertools.count(first):
        if stop.wait(PAUSE_S):
            return
        began = time.monotonic()
        try:
            seen.mixtures += CHECKS[turn % len(CHECKS)](ask, turn)
            seen.answers += 1
        except StaleObjectError as error:
            seen.stale += 1
            if f"s3://{BUCKET}/" not in str(error) or f"(table {TABLE}, partition " not in str(error):
                seen.failures.append(str(error))
        except httpx.RemoteProtocolError:
            seen.cut += 1  # it failed after its first rows were sent, which the client sees
        except Exception as error:  # noqa: BLE001  # it is reported
            seen.failures.append(f"{type(error).__name__}: {error}")
        seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)


def embedded(connection: EmbeddedConnection) -> Ask:
    return lambda sql: connection.sql(sql).to_arrow().to_pylist()


def over_http(client: httpx.Client) -> Ask:
    def ask(sql: str) -> list[Row]:
        # As a console asks, which wants so many rows and no more.
        answer = client.post("/v1/sql", json={"sql": sql, "format": "json", "limit_rows": ROWS})
        body = answer.json()
        if answer.status_code != httpx.codes.OK:
            kind = StaleObjectError if body["code"] == StaleObjectError.code else RuntimeError
            raise kind(body["detail"])
        rows: list[Row] = [dict(zip((c["name"] for c in body["columns"]), row, strict=True)) for row in body["rows"]]
        return rows

    return ask


@pytest.fixture(scope="module")
def store(server_folder: Callable[[str], Path]) -> Iterator[object_store.ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\npython_logs: {python_log_level: ERROR}\n")
    return folder


@pytest.mark.usefixtures("alone")  # every reader has to get its answers in time
@pytest.mark.parametrize("naming", ["stable", "per_run"])
def test_no_answer_mixes_versions(
    store: object_store.ObjectStore, home: Path, tmp_path: Path, naming: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = store.environ()
    fields = {
        "bucket": BUCKET,
        "prefix": naming,
        "file_naming": naming,
        "endpoint_url": store.endpoint,
        "region": environ["AWS_REGION"],
        "access_key_id": environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": environ["AWS_SECRET_ACCESS_KEY"],
    }
    with dg.DagsterInstance.from_config(str(home)) as instance:
        materialize(instance, fields, FIRST)
    kinds = {
        "copies": {"DAGFUSION_OBJECT_CACHE_DIR": str(tmp_path / "copies")},
        "no copies": {"DAGFUSION_OBJECT_CACHE_DIR": "none"},
        "large objects": {"DAGFUSION_OBJECT_CACHE_OBJECT_BYTES": "1"},
    }
    seen = {kind: Seen() for kind in (*kinds, "service", "service of large objects")}
    stop = threading.Event()
    with ExitStack() as stack:
        readers: list[tuple[str, Ask]] = []
        for kind, variables in kinds.items():
            state = {"DAGFUSION_STATE_DIR": str(tmp_path / kind)}
            connection = connect_embedded(str(home), settings={**environ, **state, **variables})
            readers += [(kind, embedded(stack.enter_context(connection)))] * READERS
        for kind, object_bytes in (("service", 1 << 20), ("service of large objects", 1)):
            server = stack.enter_context(_service(tmp_path / kind, home, environ, object_bytes))
            readers += [(kind, over_http(stack.enter_context(server.client()))) for _ in range(READERS)]
        threads = [
            threading.Thread(target=read, args=(ask, seen[kind], stop, number))
            for number, (kind, ask) in enumerate(readers)
        ]
        versions = stack.enter_context(rewriting(home, fields))
        for thread in threads:
            thread.start()
        stop.wait(SECONDS)
        stop.set()
        for thread in threads:
            thread.join()
        count = versions.value
    with capsys.disabled():
        print(f"\n{naming}: {count} versions of {len(PARTITIONS)} partitions, {SECONDS:.0f} s")  # noqa: T201
        for kind, of_kind in seen.items():
            print(f"  {kind}: {of_kind}")  # noqa: T201
        for text, times in Counter(text[:300] for of_kind in seen.values() for text in of_kind.failures).items():
            print(f"  {times} times: {text}")  # noqa: T201

    assert not [row for of_kind in seen.values() for row in of_kind.mixtures]
    assert not [text for of_kind in seen.values() for text in of_kind.failures]
    assert count
    assert all(of_kind.answers for of_kind in seen.values())
    if naming == "per_run":
        assert not [kind for kind, of_kind in seen.items() if of_kind.stale]


def _service(folder: Path, home: Path, environ: Mapping[str, str], object_bytes: int) -> Any:
    folder.mkdir()
    lines = ["[environments.local]", f'event_log = "{home}"', f's3_bucket = "{BUCKET}"']
    lines += [f'{name.lower()} = "{value}"' for name, value in environ.items()]
    (folder / "dagfusion.toml").write_text("\n".join(lines))
    return served(folder, variables={"DAGFUSION_OBJECT_CACHE_OBJECT_BYTES": str(object_bytes)})
