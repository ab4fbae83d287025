"""A service that answers the HTTP contract out of thin air, so that the console meets every case at will.

What a statement gives is decided by a word in it: `million`, `slow`, `stall`, `broken`, `syntax`, `empty`, `kinds`.
"""

import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dagfusion_query.doors.console import routes
from dagfusion_query.formats import Format
from tests.query.fake_service import Result

TOKEN = "dft_mock_secret"
DAGSTER = "http://localhost:3000"
START = date(2024, 1, 1)
STATES = [
    *("AK", "AL", "AR", "AZ", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "IA", "ID", "IL", "IN", "KS", "KY"),
    *("LA", "MA", "MD", "ME", "MI", "MN", "MO", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY"),
    *("OH", "OK", "OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VT", "WA", "WI", "WV", "WY"),
]
DAYS = 365
HOLES = {("CA", "2024-01-16"), *(("TX", f"2024-02-{day:02}") for day in range(5, 12))}
NO_DAY = "2024-03-15"  # nobody wrote anything on it
SYNTAX = {"line": 2, "column": 6}


@dataclass
class Mock:
    """What the mock was asked, and how it is to behave."""

    needs_token: bool = False
    queries: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)
    big_map: bool = False
    days: int = 365
    hidden: set[str] = field(default_factory=set)
    runs: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    lists_sent: int = 0
    generation: int = 1

    def app(self) -> Starlette:
        endpoints: list[tuple[str, str, Callable[..., Any]]] = [
            ("/v1/session", "GET", self.session),
            ("/v1/tables", "GET", self.tables),
            ("/v1/tables/{schema}/{table}", "GET", self.table),
            ("/v1/tables/{schema}/{table}/partitions", "GET", self.partitions),
            ("/v1/tables/{schema}/{table}/history", "GET", self.history),
            ("/v1/sql", "POST", self.sql),
            ("/v1/explain", "POST", self.explain),
            ("/v1/queries", "GET", self.list_queries),
            ("/v1/queries/{id}", "GET", self.query),
            ("/v1/queries/{id}", "DELETE", self.cancel),
        ]
        guarded = [Route(path, self.guard(answer), methods=[method]) for path, method, answer in endpoints]
        return Starlette(routes=[*guarded, *routes()])

    def guard(self, answer: Callable[..., Any]) -> Callable[[Request], Any]:
        async def checked(request: Request) -> Response:
            if self.needs_token and request.headers.get("authorization") != f"Bearer {TOKEN}":
                return problem(401, "unauthenticated", "this service requires an access token")
            response: Response = await answer(request)
            return response

        return checked

    async def session(self, _: Request) -> Response:
        user = "ada" if self.needs_token else "anonymous"
        return JSONResponse({"user": user, "anonymous": not self.needs_token, "everything": True, "version": "0.1.0"})

    async def tables(self, request: Request) -> Response:
        tag = {"ETag": f'W/"{self.generation}"'}
        if request.headers.get("if-none-match") == tag["ETag"]:
            return Response(status_code=304, headers=tag)
        self.lists_sent += 1
        down = {"code": "event_log_unavailable", "detail": "the Dagster database of prod does not answer: tried again"}
        environments = [environment("uat", None), environment("prod", down)]
        keys = ("name", "environment", "schema", "asset_key", "partition_columns", "partitions", "rows", "bytes",
                "materialized_at", "problem")  # fmt: skip
        shown = [{key: t[key] for key in keys} | {"warnings": len(t["warnings"])} for t in catalog()]
        shown = [each for each in shown if each["name"] not in self.hidden]
        return JSONResponse({"environments": environments, "tables": shown}, headers=tag)

    async def table(self, request: Request) -> Response:
        found = [t for t in catalog() if (t["schema"], t["name"]) == tuple(request.path_params.values())]
        return JSONResponse(found[0]) if found else problem(404, "unknown_table", "there is no such table")

    async def partitions(self, request: Request) -> Response:
        one = request.path_params["table"] == "daily_org_aggregates"
        return Response(encoded(daily() if one else million_partitions() if self.big_map else partitions(self.days)))

    async def history(self, request: Request) -> Response:
        key = request.query_params.get("partition_key")
        runs = [self.runs[key]] if key in self.runs else []
        return JSONResponse({"partition_key": key, "runs": runs, "materialized_at": None, "wiped_at": None})

    async def sql(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        sql = asked["sql"]
        query_id = f"q{len(self.queries) + 1}"
        info = self.queries[query_id] = query_info(query_id, sql)
        headers = {"DagFusion-Query-Id": query_id}
        if "syntax" in sql:
            return problem(400, "sql_syntax", "Expected: an expression, found: fron", query_id=query_id, **SYNTAX)
        if "slow" in sql:
            return await self.until_cancelled(request, query_id)
        if (form := asked.get("format", "arrow")) != "arrow":
            return Response(encoded(result(sql), form), headers=headers)
        if streamed := [chunks for word, chunks in self.streams(info).items() if word in sql]:
            return StreamingResponse(streamed[0](), headers=headers)
        table = result(sql)
        info["stats"] |= {"rows": len(table)}
        shown = {name: value for name, value in info["stats"].items() if name != "scans"}
        return Response(encoded(table), headers=headers | {"DagFusion-Stats": json.dumps(shown)})

    def streams(self, info: dict[str, Any]) -> dict[str, Callable[[], Any]]:
        return {"broken": lambda: broken(info), "stall": lambda: self.stalling(info), "million": million}

    async def until_cancelled(self, request: Request, query_id: str) -> Response:
        info = self.queries[query_id]
        info["state"] = "running"
        while not await request.is_disconnected() and query_id not in self.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        info["state"] = "cancelled"
        return problem(499, "query_cancelled", "the query was cancelled", query_id=query_id)

    async def stalling(self, info: dict[str, Any]) -> AsyncIterator[bytes]:
        """Send some rows, then nothing more until it is cancelled."""
        info["state"] = "streaming"
        for chunk in itertools.islice(million(), 3):
            yield chunk
        while info["id"] not in self.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        info["state"] = "cancelled"

    async def explain(self, request: Request) -> Response:
        sql = (await request.json())["sql"]
        if "syntax" in sql:
            return problem(400, "sql_syntax", "Expected: an expression, found: fron", **SYNTAX)
        filters = [
            {"text": 'state = Utf8("CA")', "skipped": 17_883, "by": "partition values"},
            {"text": 'date >= Date32("2024-01-05")', "skipped": 200, "by": "partition values"},
            {"text": "npi > Int64(100000)", "skipped": 12, "by": "statistics"},
            {"text": 'name LIKE Utf8("%clinic%")', "skipped": 0, "by": "nothing"},
        ]
        scan = SCAN | {"filters": filters, "partitions": [f"2024-01-{day:02}|CA" for day in range(5, 29)], "uris": []}
        plan = "Projection: npi, name\n  Filter: name LIKE '%clinic%'\n    TableScan: partitioned_organizations"
        return JSONResponse({"path": "splice", "scans": [scan], "logical": plan, "physical": plan, "generations": {}})

    async def list_queries(self, _: Request) -> Response:
        return JSONResponse({"queries": [*reversed(self.queries.values())]})

    async def query(self, request: Request) -> Response:
        return JSONResponse(self.queries[request.path_params["id"]])

    async def cancel(self, request: Request) -> Response:
        self.cancelled.add(request.path_params["id"])
        return JSONResponse(self.queries[request.path_params["id"]])


SCAN = {"table": "uat_silver_tax_id.partitioned_organizations", "files_total": 18_241, "files_read": 146,
        "bytes_total": 93_000_000, "bytes_kept": 745_000}  # fmt: skip


def problem(status: int, code: str, detail: str, **more: Any) -> Response:
    content = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    return JSONResponse(content | more, status, media_type="application/problem+json")


def query_info(query_id: str, sql: str) -> dict[str, Any]:
    stats = {
        "files_total": 18_241, "files_read": 146, "files_skipped": 18_095, "bytes_read": 745_000, "rows": 0,
        "result_bytes": 52_000, "requests": 292, "queued_s": 0.001, "planning_s": 0.006, "first_batch_s": 0.042,
        "total_s": 0.088, "generations": {"uat": 7}, "path": "splice", "scans": [SCAN], "truncated": False,
    }  # fmt: skip
    now = datetime.now(UTC).isoformat()
    return {"id": query_id, "user": "anonymous", "door": "console", "sql": sql, "state": "finished",
            "submitted_at": now, "stats": stats, "error": None}  # fmt: skip


def environment(name: str, reason: dict[str, str] | None) -> dict[str, Any]:
    return {"name": name, "generation": 7, "age_s": 0.4, "problem": reason, "dagster_url": DAGSTER}


def catalog() -> list[dict[str, Any]]:
    conflict = {"code": "schema_conflict", "detail": "column amount is int64 in 12 partitions and string in 2"}
    organizations = [("npi", "int64"), ("name", "string")]
    dimensions = [("state", "string"), ("date", "date32[day]")]
    aggregates = [("organizations", "int64"), ("share", "double")]
    empty = "partition 2024-05-01: its event names an object of 0 bytes"
    return [
        described("Silver/TaxID/partitioned_organizations", [*organizations, ("opened", "timestamp[us]")], dimensions)
        | {"partitions": 18_241, "rows": 5_841_000, "bytes": 93_400_000},
        described("Silver/TaxID/raw_organizations", organizations, []) | {"rows": 52_000, "bytes": 1_900_000},
        described("Gold/Analytics/daily_org_aggregates", aggregates, dimensions[1:])
        | {"partitions": 360, "rows": 18_000, "bytes": 2_100_000, "warnings": [empty]},
        described("Bronze/Shop/orders", [], []) | {"problem": conflict},
    ]


def described(key: str, columns: list[tuple[str, str]], dimensions: list[tuple[str, str]]) -> dict[str, Any]:
    *folders, name = key.split("/")
    shown = [{"name": n, "type": t, "partition": False} for n, t in columns]
    shown += [{"name": n, "type": t, "partition": True} for n, t in dimensions]
    return {
        "environment": "uat",
        "schema": "uat_" + "_".join(folder.replace("TaxID", "tax_id").lower() for folder in folders),
        "name": name,
        "asset_key": key.split("/"),
        "partition_columns": [n for n, _ in dimensions],
        "partitions": 1,
        "rows": 0,
        "bytes": 0,
        "materialized_at": (datetime.now(UTC) - timedelta(minutes=42)).isoformat(),
        "problem": None,
        "warnings": [],
        "columns": shown,
        "files": 1,
        "consolidated": 0,
        "would_gain": False,
        "last_run_id": "5f2c81aa-8a41-4c6b-9f0e-0c6cf9e3b0aa",
        "dagster_url": f"{DAGSTER}/assets/{key}",
    }


def partition_table(columns: dict[str, pa.Array], keys: list[str], days: list[int]) -> pa.Table:
    rows = [seasonal(number // DAYS, day) for number, day in enumerate(days)]
    now = datetime.now(UTC)
    times = [now - timedelta(minutes=42, hours=(DAYS - day) % DAYS * 5) for day in days]
    return pa.table(
        columns
        | {
            "partition_key": keys,
            "rows": pa.array(rows, pa.int64()),
            "bytes": pa.array(
                [(row * 17 + 4000) * (1 + day % 5) for row, day in zip(rows, days, strict=True)], pa.int64()
            ),
            "materialized_at": pa.array(times, pa.timestamp("us", "UTC")),
            "run_id": [f"5f2c81aa-run-{day // 30}" for day in days],
        }
    )


def seasonal(place: int, day: int) -> int:
    """Rows that are fewer on weekends and more in summer, with some noise."""
    weekend = 0.3 if (START + timedelta(day)).weekday() > 4 else 1
    size = 120 + (place * 2_654_435_761 >> 7) % 700
    noise = 0.8 + ((place * 7919 + day * 104_729) % 1009) / 2500
    return int(size * weekend * noise * (1.2 - math.cos(day / 58)))


def partitions(days: int = DAYS) -> pa.Table:
    """Date x state, with holes."""
    cells = [
        (state, day)
        for state, day in itertools.product(STATES, range(days))
        if (state, str(START + timedelta(day))) not in HOLES and str(START + timedelta(day)) != NO_DAY
    ]
    states = pa.array([state for state, _ in cells])
    dates = pa.array([START + timedelta(day) for _, day in cells])
    keys = [f"{START + timedelta(day)}|{state}" for state, day in cells]
    return partition_table({"state": states, "date": dates}, keys, [day for _, day in cells])


def million_partitions() -> pa.Table:
    """A thousand days of a thousand states."""
    number = np.arange(1_000_000)
    days = (np.datetime64(START) + number % 1000).astype("datetime64[D]")
    names = np.array([f"s{state:04}" for state in range(1000)])
    return pa.table(
        {
            "state": pa.array(names[number // 1000]),
            "date": pa.array(days),
            "partition_key": pa.nulls(len(number), pa.string()),
            "rows": pa.array(number % 977),
            "bytes": pa.array(number % 1009),
            "materialized_at": pa.array(np.full(len(number), np.datetime64("2024-06-01T00:00:00", "us"))),
            "run_id": pa.nulls(len(number), pa.string()),
        }
    )


def daily() -> pa.Table:
    days = [day for day in range(DAYS) if not 119 < day < 125]
    dates = [START + timedelta(day) for day in days]
    return partition_table({"date": pa.array(dates)}, [str(day) for day in dates], days)


def result(sql: str) -> pa.Table:
    if "empty" in sql:
        return pa.table({"npi": pa.array([], pa.int64())})
    if "kinds" in sql:
        return kinds()
    names = ["Alder Street Clinic", "Bay Dental", None, "", "Cedar Pediatrics", "Dune Imaging"]
    dates = [START + timedelta(day) for day in range(48)]
    return pa.table(
        {
            "npi": pa.array([1003000126 + 7 * number for number in range(48)], pa.int64()),
            "name": pa.array([names[number % 6] for number in range(48)]),
            "state": pa.array([STATES[number % 3] for number in range(48)]),
            "date": pa.array([dates[number // 3] for number in range(48)]),
            "score": pa.array([round(((number * 37) % 101) / 7, 3) for number in range(48)]),
        }
    )


def kinds() -> pa.Table:
    """One row of what a cell may hold."""
    moment = datetime(2024, 1, 15, 12, 30, 5, 123456, UTC)
    return pa.table(
        {
            "big": pa.array([9_007_199_254_740_993], pa.int64()),
            "price": pa.array([Decimal("-1234.50")], pa.decimal128(12, 2)),
            "at": pa.array([moment], pa.timestamp("us", "UTC")),
            "nanos": pa.array([1_705_321_805_123_456_789], pa.timestamp("ns")),
            "day": pa.array([date(1969, 12, 31)]),
            "flag": pa.array([True]),
            "bytes": pa.array([b"\x01\xff"]),
            "list": pa.array([[1, None, 3]]),
            "struct": pa.array([{"a": 1, "b": "x"}]),
            "wait": pa.array([timedelta(seconds=61.5)], pa.duration("us")),
        }
    )


def million(batches: int = 100, rows: int = 10_000) -> Iterator[bytes]:
    schema = pa.schema([("id", pa.int64()), ("label", pa.string()), ("value", pa.float64())])

    def batch(number: int) -> pa.RecordBatch:
        ids = pa.array(range(number * rows, (number + 1) * rows), pa.int64())
        labels = pa.array([f"row {each}" for each in range(number * rows, (number + 1) * rows)])
        return pa.record_batch([ids, labels, ids.cast(pa.float64())], schema=schema)

    pieces = Result(schema, lambda: map(batch, range(batches))).pieces()
    return (piece for piece in pieces if isinstance(piece, bytes))


def broken(info: dict[str, Any]) -> Iterator[bytes]:
    """Whole batches, and then no end marker."""
    yield from itertools.islice(million(), 2)
    info["state"] = "failed"
    info["error"] = {"code": "worker_died", "message": "the statement ended the process that ran it"}


def encoded(table: pa.Table, form: str = "arrow") -> bytes:
    encoder = Format(form).encoder(table.schema)
    pieces = [piece for batch in table.to_batches() for piece in encoder.write(batch)]
    return b"".join(map(bytes, [*pieces, *encoder.finish()]))
