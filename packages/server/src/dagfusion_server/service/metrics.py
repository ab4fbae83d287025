"""The metrics of the service, for Prometheus, and for CloudWatch as lines in its embedded metric format (EMF).

Agents take such lines from the service's standard output. Their names are those of Prometheus. A counter's value is
what was added since the last lines. The times of queries are values of their own, so that CloudWatch computes
percentiles.
"""

import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from dagfusion_client.documents.query_documents import QueryInfo, State
from dagfusion_query.object_cache import CACHE
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_server.environments import Environments
from dagfusion_server.service.admission import Admission
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.limits import memory_bytes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
INTERVAL_S = 60.0  # between two outputs of lines for CloudWatch
TIMES = {"dagfusion_query_seconds": "total_s", "dagfusion_query_queued_seconds": "queued_s"}
_VALUES = 100  # the most values of one metric in a line
_REMEMBERED = 20_000  # times of queries between two lines; if there are more, the latest count

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters of finished queries, and the state of the service at the time of the request.

    Attributes:
        watches: Are called with each query that is over.
        connections: Returns the open connections of each door, by its name.
    """

    def __init__(self, pool: Pool, admission: Admission, environments: Environments) -> None:
        self.watches: list[Callable[[QueryInfo], None]] = []
        self.connections: Callable[[], Mapping[str, int]] = dict
        self._registry = CollectorRegistry()
        self._registry.register(_State(pool, admission, environments, self._open_connections))
        r = self._registry
        self._queries = Counter(
            "dagfusion_queries",
            "Queries that are over; outcome is finished or an error's code.",
            ["door", "outcome"],
            registry=r,
        )
        self._queued = Histogram("dagfusion_query_queued_seconds", "Wait for a worker.", buckets=_SECONDS, registry=r)
        self._planning = Histogram("dagfusion_query_planning_seconds", "Planning.", buckets=_SECONDS, registry=r)
        self._total = Histogram("dagfusion_query_seconds", "Arrival to end.", buckets=_SECONDS, registry=r)
        self._files_read = Counter("dagfusion_files_read", "Files that queries read.", registry=r)
        self._files_skipped = Counter("dagfusion_files_skipped", "Files that queries did not need.", registry=r)
        self._bytes_read = Counter("dagfusion_bytes_read", "Bytes read from object stores.", registry=r)
        self._requests = Counter("dagfusion_store_requests", "Requests sent to object stores.", registry=r)
        self._bytes_skipped = Counter("dagfusion_bytes_skipped", "Bytes of files not needed.", registry=r)
        self._rows = Counter("dagfusion_result_rows", "Rows of results.", registry=r)
        self._bytes = Counter("dagfusion_result_bytes", "Encoded bytes of results.", registry=r)
        self._plans = Counter("dagfusion_plans", "Plans, by whether there was one already.", ["cache"], registry=r)
        self._results = Counter(
            "dagfusion_results", "Results, by whether one was kept for an equal query.", ["cache"], registry=r
        )
        self._copies = Counter(
            "dagfusion_copies", "Local copies that queries needed, by whether they were there.", ["cache"], registry=r
        )

        self._warm_up_requests = Counter(
            "dagfusion_warm_up_requests", "Requests for new objects before a query needs them.", registry=r
        )
        self._warm_up_bytes = Counter("dagfusion_warm_up_bytes", "Bytes fetched by these requests.", registry=r)

    def warmed_up(self, fetch: TableFetch) -> None:
        """Count what was fetched of a table before a query needs it."""
        self._warm_up_requests.inc(fetch.requests)
        self._warm_up_bytes.inc(fetch.bytes)

    def planned(self, *, cached: bool) -> None:
        """Count a statement that was planned, or whose plan was there."""
        self._plans.labels("hit" if cached else "miss").inc()

    def over(self, info: QueryInfo) -> None:
        """Count a query that is over."""
        outcome = State.finished.value if info.error is None else info.error.code
        self._queries.labels(info.door, outcome).inc()
        stats = info.stats
        self._queued.observe(stats.queued_s)
        self._total.observe(stats.total_s)
        if stats.planning_s:
            self._planning.observe(stats.planning_s)
        self._files_read.inc(stats.files_read)
        self._files_skipped.inc(stats.files_skipped)
        self._bytes_read.inc(stats.bytes_read)
        self._requests.inc(stats.requests or 0)
        self._bytes_skipped.inc(sum(scan.bytes_total - scan.bytes_kept for scan in stats.scans))
        if stats.path:
            self._results.labels("hit" if stats.path == CACHE else "miss").inc()
        self._copies.labels("hit").inc(stats.copies_found)
        self._copies.labels("miss").inc(stats.copies_fetched)
        self._rows.inc(stats.rows)
        self._bytes.inc(stats.result_bytes)
        for watch in self.watches:
            watch(info)

    def _open_connections(self) -> Mapping[str, int]:
        return self.connections()

    def collect(self) -> Iterable[Metric]:
        """Return everything as Prometheus's library has it."""
        return self._registry.collect()

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """The gauges at the moment of the request."""

    def __init__(
        self, pool: Pool, admission: Admission, environments: Environments, connections: Callable[[], Mapping[str, int]]
    ) -> None:
        self._pool, self._admission, self._environments = pool, admission, environments
        self._connections = connections

    def describe(self) -> list[GaugeMetricFamily]:
        """Return no metrics: the service is not complete yet."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the state of workers, queue and catalogs."""
        pool, admission = self._pool, self._admission
        yield _gauge("dagfusion_workers_live", "Workers that take statements, or run one.", pool.live)
        yield _gauge("dagfusion_workers_busy", "Workers that run a statement.", pool.busy)
        memory = sum(map(memory_bytes, pool.pids))
        yield _gauge("dagfusion_worker_memory_bytes", "Memory of all workers, without mapped files.", memory)
        restarts = CounterMetricFamily("dagfusion_worker_restarts", "Workers replaced, by reason.", labels=["reason"])
        for reason, count in pool.restarts.items():
            restarts.add_metric([reason], count)
        yield restarts
        yield _gauge("dagfusion_queries_queued", "Queries that wait for a worker.", admission.waiting)
        yield _gauge("dagfusion_queries_running", "Queries that have one.", admission.running)
        yield _by("door", "dagfusion_connections", "Open connections of clients.", self._connections())
        states = self._environments.states()
        up = {name: float(state.current_problem is None) for name, state in states.items()}
        lags = {name: state.lag for name, state in states.items() if state.lag is not None}
        ages = {name: lag.age_s for name, lag in lags.items()}
        undiscovered = {name: float(lag.undiscovered) for name, lag in lags.items()}
        checkpoints = {name: s.checkpoint_age_s for name, s in states.items() if s.checkpoint_age_s is not None}
        generations = {name: state.snapshot.generation for name, state in states.items()}
        yield _by_environment("dagfusion_environment_up", "Whether an environment can be read.", up)
        yield _by_environment("dagfusion_catalog_lag_seconds", "Since its event log was last read.", ages)
        yield _by_environment(
            "dagfusion_catalog_checkpoint_age_seconds", "Since its checkpoint had all of its catalog.", checkpoints
        )
        yield _by_environment(
            "dagfusion_catalog_undiscovered", "Objects of other IO managers still to be looked at.", undiscovered
        )
        yield _by_environment("dagfusion_catalog_generation", "Of its catalog.", generations)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by_environment(name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    return _by("environment", name, text, values)


def _by(label: str, name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for one, value in values.items():
        family.add_metric([one], value)
    return family


class CloudWatch:
    """Turns metrics into lines.

    Args:
        namespace: The namespace of the metrics in CloudWatch.
        collect: Gives the service's metrics.
    """

    def __init__(self, namespace: str, collect: Callable[[], Iterable[Metric]]) -> None:
        self._namespace, self._collect = namespace, collect
        self._counted: dict[tuple[str, Labels], float] = {}
        self._times = {name: deque[float](maxlen=_REMEMBERED) for name in TIMES}

    def over(self, info: QueryInfo) -> None:
        """Remember the times of a query that is over."""
        for name, stat in TIMES.items():
            self._times[name].append(getattr(info.stats, stat))

    def lines(self) -> Iterator[str]:
        """Yield what is so now, and what was added since the last call."""
        gathered: defaultdict[Labels, dict[str, float]] = defaultdict(dict)
        counters = set()
        for metric in self._collect():
            for sample in _samples(metric):
                labels = tuple(sorted(sample.labels.items()))
                is_counter = metric.type == "counter"
                gathered[labels][sample.name] = self._added(sample, labels) if is_counter else sample.value
                counters |= {sample.name} if is_counter else set()
        for labels, values in gathered.items():
            for group in (counters, values.keys() - counters):
                if chosen := {name: value for name, value in values.items() if name in group}:
                    yield self._line(labels, chosen, _dimensions(labels, adds_up=group is counters))
        yield from self._lines_of_times()

    def _added(self, sample: Sample, labels: Labels) -> float:
        before = self._counted.get((sample.name, labels), 0.0)
        self._counted[sample.name, labels] = sample.value
        return sample.value - before

    def _lines_of_times(self) -> Iterator[str]:
        for name, times in self._times.items():
            values, most = iter(list(times)), _VALUES
            times.clear()
            while chunk := list(itertools.islice(values, most)):
                yield self._line((), {name: chunk}, [[]])

    def _line(
        self, labels: Labels, values: Mapping[str, float | Sequence[float]], dimensions: Sequence[Sequence[str]]
    ) -> str:
        metrics = [{"Name": name, "Unit": unit_of(name)} for name in values]
        described = {"Namespace": self._namespace, "Dimensions": dimensions, "Metrics": metrics}
        head = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [described]}
        return orjson.dumps({"_aws": head, **dict(labels), **values}).decode()


def unit_of(name: str) -> str:
    """Return CloudWatch's unit of a metric."""
    base = name.removesuffix("_total")
    return "Seconds" if base.endswith("_seconds") else "Bytes" if "_bytes" in base else "Count"


def _samples(metric: Metric) -> Iterator[Sample]:
    """Yield the samples that are logged; histograms are logged as their values instead."""
    if metric.type in ("counter", "gauge"):
        yield from (sample for sample in metric.samples if not sample.name.endswith("_created"))


def _dimensions(labels: Labels, *, adds_up: bool) -> Sequence[Sequence[str]]:
    """Return the sets of labels by which CloudWatch keeps a metric: each costs as one."""
    names = [[name] for name, _ in labels]
    return [[], *names] if adds_up else names or [[]]
