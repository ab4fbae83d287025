"""Dagster's webserver, daemon and code location, used through GraphQL as its UI uses it."""

import contextlib
import datetime as dt
import io
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import polars as pl
import pytest

from dagfusion_reference.defs.states import CODES
from dagfusion_stack import dagster, process
from dagfusion_stack.home import Home
from tests.e2e.lake import ORDERS, ORDERS_BY_STATE, PREFIX, SALES_AGGREGATES, Lake, lake
from tests.e2e.services import Database, ObjectStore
from tests.ports import kept_ports

LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": dagster.MODULE}
PATIENCE_S = 300
DAY = "2024-01-02"
KEYS = [f"{DAY}|{state}" for state in CODES]
SPOILT = f"{DAY}|CA"

Found = TypeVar("Found")

LAUNCH = """mutation($params: ExecutionParams!) {launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
RUN = """query($id: ID!) {runOrError(runId: $id) {... on Run {status
  assets {key {path}} assetChecks {name} stepStats {stepKey status}}}}"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}"""
BACKFILL_STATUS = """query($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {
  status numPartitions runs(limit: 10) {status tags {key value}}}}}"""
EVENTS = """query($key: AssetKeyInput!, $partitions: [String!]) {assetOrError(assetKey: $key) {... on Asset {
  assetMaterializations(partitions: $partitions, limit: 200) {partition runId metadataEntries {__typename label
    ... on IntMetadataEntry {intValue} ... on UrlMetadataEntry {url}}}}}}"""
START_SENSOR = """mutation($sensor: SensorSelector!) {startSensor(sensorSelector: $sensor) {
  __typename ... on Sensor {sensorState {id}} ... on PythonError {message}}}"""
STOP_SENSOR = """mutation($id: String!) {stopSensor(id: $id) {__typename ... on PythonError {message}}}"""
DRY_RUN = """mutation($schedule: ScheduleSelector!, $at: Float!) {
  scheduleDryRun(selectorData: $schedule, timestamp: $at) {__typename ... on PythonError {message}
    ... on DryRunInstigationTick {evaluationResult {error {message} runRequests {runKey tags {key value}}}}}}"""
CHECKS = """query($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) {... on AssetNode {
  assetChecksOrError {... on AssetChecks {checks {name blocking
    executionForLatestMaterialization {status evaluation {severity}}}}}}}}"""


@dataclass(frozen=True)
class Deployment:
    """Dagster's servers over a lake."""

    lake: Lake
    port: int

    def ask(self, query: str, **variables: object) -> Any:
        """The answer to one request of the UI; what it is called in GraphQL is the only key."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - likewise
            answer = json.load(response)
        assert "errors" not in answer, answer
        (found,) = answer["data"].values()
        assert found.get("__typename") != "PythonError", found
        return found

    def launch(self, job: str, assets: Sequence[dg.AssetKey] = (), tags: Mapping[str, str] | None = None) -> str:
        """Start a run as the button "Materialize" does, and return its id."""
        selection = {"assetSelection": [{"path": key.path} for key in assets], "assetCheckSelection": []}
        params = {
            "selector": {**LOCATION, "pipelineName": job, **(selection if assets else {})},
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in (tags or {}).items()]},
        }
        return str(self.ask(LAUNCH, params=params)["run"]["runId"])

    def finished(self, run: str) -> Any:
        """A run once it has ended."""
        return eventually(lambda: self.ask(RUN, id=run), lambda found: found["status"] in {"SUCCESS", "FAILURE"})

    def events(self, key: dg.AssetKey, *partitions: str) -> list[Any]:
        found = self.ask(EVENTS, key={"path": key.path}, partitions=list(partitions) or None)
        return list(found["assetMaterializations"])


def eventually(find: Callable[[], Found], accepts: Callable[[Found], bool]) -> Found:
    deadline = time.monotonic() + PATIENCE_S
    while not accepts(found := find()):
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return found


@contextlib.contextmanager
def running(home: Home, environ: Mapping[str, str], port: int) -> Iterator[None]:
    """The three processes of Dagster, as the local stack starts them."""
    children = []
    try:
        children.append(dagster.start_code_location(home, environ))
        children[0].wait_ready(lambda: dagster.code_location_answers(home), timeout_s=dagster.START_TIMEOUT_S)
        children.append(dagster.start_webserver(home, port, environ))
        children.append(dagster.start_daemon(home, environ))
        children[1].wait_ready(lambda: dagster.webserver_answers(port), timeout_s=dagster.START_TIMEOUT_S)
        assert dagster.load_error(port) is None
        yield
    finally:
        process.end(process.marked(home.path), signal.SIGKILL, timeout_s=30)  # runs too
        for child in children:
            child.stop()


@pytest.fixture
def deployment(database: Database, object_store: ObjectStore, tmp_path: Path) -> Iterator[Deployment]:
    home = Home(tmp_path / "home")
    home.prepare()
    (port,) = kept_ports(1)
    (tmp_path / "dagster").mkdir()
    with lake(database, object_store, tmp_path / "dagster") as found:
        dagster.configure(home, found.event_log)
        environ = {**os.environ, **found.variables, "DAGSTER_HOME": str(home.dagster)}
        with running(home, environ, port):
            yield Deployment(found, port)


def spoil(found: Lake) -> None:
    """Upload ten rows in place of a partition's, as another writer would."""
    key = f"{PREFIX}/Silver/Commerce/partitioned_orders/state=CA/date={DAY}/data.parquet"
    rows = pl.read_parquet(found.s3.get_object(Bucket=found.bucket, Key=key)["Body"].read())
    content = io.BytesIO()
    rows.head(10).write_parquet(content)
    found.s3.put_object(Bucket=found.bucket, Key=key, Body=content.getvalue())


@pytest.mark.slow
@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("services", ["embedded"], indirect=True, scope="session")
def test_the_reference_location_in_dagster(deployment: Deployment) -> None:
    # The sensor ignores what was there at its first tick, so it starts before Silver is written.
    sensor = deployment.ask(START_SENSOR, sensor={**LOCATION, "sensorName": "gold_after_silver"})["sensorState"]["id"]

    # Backfill a range: one run writes all states of a day. The daemon looks at its backfills every half minute.
    assert deployment.lake.materialize(ORDERS)
    params = {"assetSelection": [{"path": ORDERS_BY_STATE.path}], "partitionNames": KEYS}
    backfill = deployment.ask(BACKFILL, params=params)["backfillId"]

    # Materialize from the UI.
    run = deployment.launch("__ASSET_JOB", [ORDERS])
    assert deployment.finished(run)["status"] == "SUCCESS"
    event = next(event for event in deployment.events(ORDERS) if event["runId"] == run)
    shown = {entry["label"]: entry for entry in event["metadataEntries"]}
    assert shown["dagster/row_count"]["intValue"] == 50_000
    assert shown["s3_path"]["url"].startswith("http")

    written = eventually(lambda: deployment.events(ORDERS_BY_STATE), lambda events: len(events) >= len(KEYS))
    assert {event["partition"] for event in written} == {*KEYS}
    (run,) = {event["runId"] for event in written}

    (gold,) = eventually(lambda: deployment.events(SALES_AGGREGATES), lambda events: len(events) > 0)
    assert gold["partition"] == DAY
    deployment.ask(STOP_SENSOR, id=sensor)

    # Objects that land become materializations. The object counts in whose place they are, once.
    assert deployment.finished(run)["status"] == "SUCCESS"
    spoil(deployment.lake)
    deployment.ask(START_SENSOR, sensor={**LOCATION, "sensorName": "landed_orders"})
    events = eventually(lambda: deployment.events(ORDERS_BY_STATE), lambda events: len(events) > len(KEYS))
    (landed,) = [event for event in events if not event["runId"]]
    rows = {entry["label"]: entry.get("intValue") for entry in landed["metadataEntries"]}
    assert (landed["partition"], rows["dagster/partition_row_count"], rows["orders"]) == (SPOILT, 10, 10)

    # The blocking check of the day's orders fails, so that the day's sales are not written.
    blocked = deployment.finished(deployment.launch("ecommerce_gold", tags={"dagster/partition": DAY}))
    assert blocked["status"] == "FAILURE"
    steps = {step["stepKey"]: step["status"] for step in blocked["stepStats"]}
    assert steps.get("Gold__Analytics__daily_sales_aggregates") in {None, "SKIPPED"}
    assert deployment.events(SALES_AGGREGATES) == [gold]
    found = deployment.ask(CHECKS, key={"path": ORDERS_BY_STATE.path})["assetChecksOrError"]["checks"]
    failed = [check for check in found if check["executionForLatestMaterialization"]["status"] != "SUCCEEDED"]
    assert [(check["name"], check["blocking"]) for check in failed] == [("row_count", True)]

    # The schedule requests the days that are not in the event log: the backfill has written one of them.
    at = dt.datetime(2024, 1, 6, 2, tzinfo=dt.UTC).timestamp()
    tick = deployment.ask(DRY_RUN, schedule={**LOCATION, "scheduleName": "ecommerce_daily_schedule"}, at=at)
    requests = [request["runKey"] for request in tick["evaluationResult"]["runRequests"]]
    assert requests == [
        "2024-01-01 at 2024-01-06",
        "2024-01-03 at 2024-01-06",
        "2024-01-04 at 2024-01-06",
        "2024-01-05",
    ]

    done = eventually(
        lambda: deployment.ask(BACKFILL_STATUS, id=backfill), lambda found: found["status"].startswith("COMPLETED")
    )
    assert (done["status"], done["numPartitions"]) == ("COMPLETED_SUCCESS", len(KEYS))
    assert [run["status"] for run in done["runs"]] == ["SUCCESS"]
