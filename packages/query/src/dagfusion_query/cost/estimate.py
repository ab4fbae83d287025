"""The estimate of costs: the table of prices, the lifecycle rules of a bucket, and what the objects cost under them.

The prices are a file with its date and region.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from dagfusion_client.documents.query_documents import QueryCost, Stats

SMALLEST_MOVED_BYTES = 128 << 10  # by default, a rule does not move smaller objects
STANDARD, GONE = "STANDARD", ""
GIB = float(1 << 30)
MONTH_DAYS = 30.4
LARGE_OBJECT_BYTES = 64e6  # the default of `dagfusion consolidate`


@dataclass(frozen=True)
class LifecycleRule:
    """One enabled rule for current versions.

    Attributes:
        prefix: The prefix of the keys that it is for.
        moves: Days and storage classes, in order.
        expires_days: None if it deletes nothing.
        above_bytes: Objects must be larger.
        below_bytes: Objects must be smaller; None for any.
    """

    prefix: str = ""
    moves: Sequence[tuple[int, str]] = field(default=())
    expires_days: int | None = None
    above_bytes: int = -1
    below_bytes: int | None = None


def read_rules(configuration: Iterable[Mapping[str, Any]]) -> list[LifecycleRule]:
    """Return the rules that the catalog can apply: those by age, prefix and size. Rules by tags and dates are left out.

    Args:
        configuration: As S3 returns it.
    """
    rules = []
    for rule in configuration:
        outer = rule.get("Filter", {})
        conditions = {**{key: value for key, value in outer.items() if key != "And"}, **outer.get("And", {})}
        if rule.get("Status") != "Enabled" or conditions.keys() & {"Tag", "Tags"}:
            continue
        moves = [(one["Days"], one["StorageClass"]) for one in rule.get("Transitions", ()) if "Days" in one]
        rules.append(
            LifecycleRule(
                conditions.get("Prefix", rule.get("Prefix", "")),
                sorted(moves),
                rule.get("Expiration", {}).get("Days"),
                conditions.get("ObjectSizeGreaterThan", -1),
                conditions.get("ObjectSizeLessThan"),
            )
        )
    return rules


def storage_classes(
    keys: Sequence[str],
    sizes: npt.NDArray[np.int64],
    ages_days: npt.NDArray[np.float64],
    rules: Sequence[LifecycleRule],
) -> npt.NDArray[np.str_]:
    """Return the storage class of each object at its age; `GONE` if a rule has deleted it.

    Args:
        keys: The keys of the objects.
        sizes: In bytes.
        ages_days: The age of each.
        rules: The rules of the bucket. Where two of them apply, the later move counts, and any deletion.
    """
    found = np.full(len(sizes), STANDARD, dtype="U24")
    moved_at = np.full(len(sizes), -1.0)
    gone = np.zeros(len(sizes), dtype=bool)
    for rule in rules:
        applies = np.fromiter((key.startswith(rule.prefix) for key in keys), bool, len(keys))
        applies &= sizes > rule.above_bytes
        if rule.below_bytes is not None:
            applies &= sizes < rule.below_bytes
        movable = applies & (sizes >= (SMALLEST_MOVED_BYTES if rule.above_bytes < 0 else 0))
        for days, name in rule.moves:
            now = movable & (ages_days >= days) & (moved_at <= days)
            found[now], moved_at[now] = name, days
        if rule.expires_days is not None:
            gone |= applies & (ages_days >= rule.expires_days)
    found[gone] = GONE
    return found


@dataclass(frozen=True)
class Prices:
    """Prices of AWS in US dollars, without discounts and free tiers.

    Attributes:
        date: When they were read.
        storage_gb_month: By storage class, for a GiB and a month.
        smallest_billed_bytes: By storage class: the size that a smaller object is billed as.
        overhead_bytes: By storage class, for each object, billed in addition to its size at the price of this class.
        overhead_standard_bytes: For each object of a class with such an overhead, billed at the price of STANDARD.
        retrieval_gb: By storage class, for a GiB that is read. Classes that GET cannot read are left out.
        transition_per_1000: By the storage class that a lifecycle rule moves objects to.
        get_per_1000: GET and HEAD, of STANDARD.
        get_per_1000_by_class: GET of the storage classes with another price.
        put_per_1000: PUT, COPY, POST and LIST.
        fargate_vcpu_hour: Linux on x86.
    """

    date: str
    region: str
    currency: str
    storage_gb_month: Mapping[str, float]
    smallest_billed_bytes: Mapping[str, int]
    overhead_bytes: Mapping[str, int]
    overhead_standard_bytes: int
    retrieval_gb: Mapping[str, float]
    transition_per_1000: Mapping[str, float]
    get_per_1000: float
    get_per_1000_by_class: Mapping[str, float]
    put_per_1000: float
    fargate_vcpu_hour: float
    fargate_gb_hour: float


def read_prices() -> Prices:
    """Return the table of this version."""
    return Prices(**json.loads(files("dagfusion_query.cost").joinpath("prices.json").read_text("utf-8")))


def query_cost(stats: Stats, worker_memory_bytes: int, prices: Prices) -> QueryCost:
    """Return the price of a query that is over.

    Args:
        stats: Its requests and times.
        worker_memory_bytes: The memory that a worker may use.
        prices: The table of prices.
    """
    hours = max(0.0, stats.total_s - stats.queued_s) / 3600
    worker_hour = prices.fargate_vcpu_hour + worker_memory_bytes / GIB * prices.fargate_gb_hour
    requests_usd = None if stats.requests is None else stats.requests / 1000 * prices.get_per_1000
    return QueryCost(requests_usd, hours * worker_hour, prices.date)


@dataclass(frozen=True)
class StoredFiles:
    """The objects of one table.

    Attributes:
        table: The name.
        keys: The keys of the objects, in their buckets.
        sizes: In bytes.
        ages_days: Since they were written.
        would_gain: Whether a consolidation would make scans faster.
    """

    table: str
    keys: Sequence[str]
    sizes: npt.NDArray[np.int64]
    ages_days: npt.NDArray[np.float64]
    would_gain: bool = False


@dataclass(frozen=True)
class ClassCost:
    """The objects of one storage class in one month.

    Attributes:
        gb: Their size in GiB.
        usd: Their storage, with what the class bills for small objects and for each object.
        read_usd: Reading all of them once: a GET for each, and the retrieval. None if GET cannot read the class, or
            the table of prices does not have it.
    """

    storage_class: str
    objects: int
    gb: float
    usd: float
    read_usd: float | None


@dataclass(frozen=True)
class MonthCost:
    """One month: what is stored in it, and what lifecycle rules move and delete by its end."""

    month: int
    classes: Sequence[ClassCost]
    moved: int
    moves_usd: float
    deleted: int

    @property
    def usd(self) -> float:
        """Storage and moves."""
        return sum(one.usd for one in self.classes) + self.moves_usd


@dataclass(frozen=True)
class Saving:
    """The change of costs by a consolidation of a table.

    Attributes:
        objects_now: GETs of a scan of all partitions, without local copies.
        objects_then: The same after a consolidation.
        usd_month: Less for requests each month, if queries read all tables alike.
        extra_usd_month: More for storage, because the small objects stay.
    """

    table: str
    objects_now: int
    objects_then: int
    usd_month: float
    extra_usd_month: float


@dataclass(frozen=True)
class Estimate:
    """Costs in US dollars.

    Attributes:
        months: In order, the first begins now.
        requests_month: GETs of queries each month, and where the number comes from.
        requests_usd: These GETs, at the price of STANDARD: the requests of a query have no storage class.
        writes_month: PUTs each month: objects that were written in the last month.
    """

    months: Sequence[MonthCost]
    requests_month: int
    requests_from: str
    requests_usd: float
    writes_month: int
    writes_usd: float
    savings: Sequence[Saving] = field(default=())

    @property
    def usd(self) -> float:
        """All months together."""
        return sum(month.usd for month in self.months) + len(self.months) * (self.requests_usd + self.writes_usd)


def estimate(
    tables: Sequence[StoredFiles],
    rules: Mapping[str, Sequence[LifecycleRule]],
    prices: Prices,
    *,
    months: int,
    requests_month: int,
    requests_from: str,
) -> Estimate:
    """Estimate the costs of the objects that are there, and of the requests for them.

    Args:
        tables: From the catalog.
        rules: By table, of its bucket.
        prices: The table of prices.
        months: How many months from now.
        requests_month: GETs of queries each month.
        requests_from: Where that number comes from.
    """
    states = [{one.table: _at(one, rules.get(one.table, ()), month) for one in tables} for month in range(months + 1)]
    writes = sum(int((one.ages_days < MONTH_DAYS).sum()) for one in tables)
    return Estimate(
        [_month(number, tables, states[number], states[number + 1], prices) for number in range(months)],
        requests_month,
        requests_from,
        requests_month / 1000 * prices.get_per_1000,
        writes,
        writes / 1000 * prices.put_per_1000,
        _savings(tables, prices, requests_month),
    )


def _at(one: StoredFiles, rules: Sequence[LifecycleRule], month: int) -> npt.NDArray[np.str_]:
    return storage_classes(one.keys, one.sizes, one.ages_days + month * MONTH_DAYS, rules)


def _month(
    number: int,
    tables: Sequence[StoredFiles],
    start: Mapping[str, npt.NDArray[np.str_]],
    end: Mapping[str, npt.NDArray[np.str_]],
    prices: Prices,
) -> MonthCost:
    held: dict[str, list[npt.NDArray[np.int64]]] = {}
    moved, moves_usd, deleted = 0, 0.0, 0
    for one in tables:
        before, after = start[one.table], end[one.table]
        for name in {*before.tolist()} - {GONE}:
            held.setdefault(name, []).append(one.sizes[before == name])
        deleted += int(((before != GONE) & (after == GONE)).sum())
        for name in {*after.tolist()} - {GONE}:
            count = int(((after == name) & (before != name)).sum())
            moved += count
            moves_usd += count / 1000 * prices.transition_per_1000.get(name, 0.0)
    classes = [_class_cost(name, np.concatenate(held[name]), prices) for name in sorted(held)]
    return MonthCost(number + 1, classes, moved, moves_usd, deleted)


def _class_cost(name: str, sizes: npt.NDArray[np.int64], prices: Prices) -> ClassCost:
    count, gb, overhead = len(sizes), int(sizes.sum()) / GIB, prices.overhead_bytes.get(name, 0)
    billed = int(np.maximum(sizes, prices.smallest_billed_bytes.get(name, 0)).sum()) + count * overhead
    usd = billed / GIB * _price(prices, name)
    if overhead:
        usd += count * prices.overhead_standard_bytes / GIB * prices.storage_gb_month[STANDARD]
    retrieval = prices.retrieval_gb.get(name)
    gets_usd = count / 1000 * prices.get_per_1000_by_class.get(name, prices.get_per_1000)
    return ClassCost(name, count, gb, usd, None if retrieval is None else gets_usd + gb * retrieval)


def _price(prices: Prices, name: str) -> float:
    """Return the price of a class; one that the table does not have costs as much as STANDARD."""
    return prices.storage_gb_month.get(name, prices.storage_gb_month[STANDARD])


def _savings(tables: Sequence[StoredFiles], prices: Prices, requests_month: int) -> list[Saving]:
    everything = sum(len(one.sizes) for one in tables)
    found = []
    for one in tables:
        if one.would_gain:
            size, now = int(one.sizes.sum()), len(one.sizes)
            then = min(now, max(1, round(size / LARGE_OBJECT_BYTES)))
            saved = requests_month * now / everything * (1 - then / now) / 1000 * prices.get_per_1000
            found.append(Saving(one.table, now, then, saved, size / GIB * prices.storage_gb_month[STANDARD]))
    return found
