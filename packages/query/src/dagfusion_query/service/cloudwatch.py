"""The metrics of the service for CloudWatch: lines in its embedded metric format (EMF), which agents take from the log.

The names are those of Prometheus. A counter's value is what was added since the last lines. The times of queries are
values of their own, so that CloudWatch computes percentiles.
"""

import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from dagfusion_query.documents.queries import QueryInfo

INTERVAL_S = 60.0
TIMES = {"dagfusion_query_seconds": "total_s", "dagfusion_query_queued_seconds": "queued_s"}
_VALUES = 100  # the most values of one metric in a line
_REMEMBERED = 20_000  # times of queries between two lines; if there are more, the latest count

Labels = tuple[tuple[str, str], ...]


class CloudWatch:
    """Turns metrics into lines.

    Args:
        namespace: Of the metrics in CloudWatch.
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
            values, given = iter(list(times)), _VALUES
            times.clear()
            while chunk := list(itertools.islice(values, given)):
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
    """Yield the samples that are told; histograms are told by their values instead."""
    if metric.type in ("counter", "gauge"):
        yield from (sample for sample in metric.samples if not sample.name.endswith("_created"))


def _dimensions(labels: Labels, *, adds_up: bool) -> Sequence[Sequence[str]]:
    """Return the sets of labels by which CloudWatch keeps a metric: each costs as one."""
    names = [[name] for name, _ in labels]
    return [[], *names] if adds_up else names or [[]]
