"""What the metrics of an executed plan say about the files that its Parquet scans read. The names are DataFusion's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from datafusion import ExecutionPlan
from datafusion.plan import MetricsSet

_BYTES, _FILES, _FILE_NAME = "bytes_scanned", "files_opened", "filename"
_WAITS = ("time_elapsed_opening", "time_elapsed_scanning_until_data")


def read_bytes(plans: Sequence[ExecutionPlan]) -> int:
    """Return the bytes that plans have read so far."""
    return sum(_sum(found, _BYTES) for plan in plans for found in _scans(plan))


def file_openings(plans: Sequence[ExecutionPlan]) -> int:
    """Return how often plans have opened a file so far; one that is read in parts is opened for each."""
    return sum(_sum(found, _FILES) for plan in plans for found in _scans(plan))


def repeated_openings(plan: ExecutionPlan, objects: Mapping[str, str]) -> int:
    """Return how often a plan has opened an object, or a local copy of it, to read another part than before.

    Args:
        plan: The plan.
        objects: By the last two parts of the path of a copy, the path of its object.
    """
    scans = list(_scans(plan))
    paths = {path for found in scans for path in _file_names(found)}
    names = {objects.get("/".join(path.split("/")[-2:]), path) for path in paths}
    return max(0, sum(_sum(found, _FILES) for found in scans) - len(names))


def opened_files(plan: ExecutionPlan, count: int) -> frozenset[str] | None:
    """Return the paths of the files that a plan has opened; None where these are all of its `count` files."""
    scans = [*_metrics(plan)]
    if sum(_sum(found, _FILES) for found in scans) >= count:
        return None
    return frozenset(name for found in scans for name in _file_names(found))


def waited_s(plans: Sequence[ExecutionPlan], is_copy: Callable[[str], bool]) -> float:
    """Return the seconds from opening each object to its first rows, added over all objects that plans read in place.

    Args:
        plans: The plans. Each of their scans reads either objects in place or local copies.
        is_copy: Returns True if the path of a file is that of a local copy, which is opened without a request.
    """
    scans = (found for plan in plans for found in _scans(plan) if not any(map(is_copy, islice(_file_names(found), 1))))
    return sum(_sum(found, metric) for found in scans for metric in _WAITS) / 1e9


def _scans(plan: ExecutionPlan) -> Iterator[MetricsSet]:
    """Yield the metrics of Parquet scans. Only these count bytes; the other scans are of the engine's own files."""
    return (found for found in _metrics(plan) if found.sum_by_name(_BYTES) is not None)


def _metrics(plan: ExecutionPlan) -> Iterator[MetricsSet]:
    """Yield the metrics of a plan's nodes. `collect_metrics` would also write each node's text, with its files."""
    if (found := plan.metrics()) is not None:
        yield found
    for child in plan.children():
        yield from _metrics(child)


def _sum(found: MetricsSet, metric: str) -> int:
    return found.sum_by_name(metric) or 0


def _file_names(found: MetricsSet) -> Iterator[str]:
    return (name for metric in found.metrics() if (name := metric.labels().get(_FILE_NAME)) is not None)
