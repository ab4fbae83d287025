"""The results of the demo, and the comparison of an answer with its independent computation."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

Row = tuple[object, ...]


@dataclass(frozen=True)
class AssetReport:
    """One asset as the catalog has it."""

    key: str
    table: str
    partitions: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class QueryReport:
    """One query: what it cost, and whether its answer is the independent computation's."""

    name: str
    sql: str
    rows: int
    files_total: int
    files_read: int
    files_skipped: int
    bytes_read: int
    seconds: float
    ok: bool


@dataclass(frozen=True)
class Answer:
    """A query's answer, with what it shows and how it differs from what it should be, if it does."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    report: QueryReport
    difference: str | None


@dataclass(frozen=True)
class Report:
    """The results of the demo."""

    seconds: float
    assets: Sequence[AssetReport]
    answers: Sequence[Answer]

    @property
    def ok(self) -> bool:
        """True if all answers are right."""
        return all(answer.report.ok for answer in self.answers)

    def document(self) -> dict[str, object]:
        """Return the report as a JSON document."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "assets": [asdict(asset) for asset in self.assets],
            "queries": [asdict(answer.report) for answer in self.answers],
        }


def difference(actual: Sequence[Row], expected: Sequence[Row]) -> str | None:
    """Return the first difference between an answer and the expected one, or None.

    >>> difference([("CA", 3)], [("CA", 3)])
    >>> difference([("CA", 3)], [("CA", 4)])
    "row 1 is ('CA', 3) and should be ('CA', 4)"
    """
    if len(actual) != len(expected):
        return f"it has {len(actual)} rows and should have {len(expected)}"
    for number, (one, other) in enumerate(zip(actual, expected, strict=True), start=1):
        if not _same(one, other):
            return f"row {number} is {one} and should be {other}"
    return None


def _same(actual: Row, expected: Row) -> bool:
    return len(actual) == len(expected) and all(map(_equal, actual, expected))


def _equal(actual: object, expected: object) -> bool:
    if isinstance(actual, float) and isinstance(expected, float):
        return math.isclose(actual, expected, rel_tol=1e-12) or (math.isnan(actual) and math.isnan(expected))
    return actual == expected


@dataclass(frozen=True)
class SeededAsset:
    """The partitions and rows of an asset after seeding.

    Attributes:
        key: Dagster's, joined by slashes.
        written: Partitions that this command materialized; the others were there.
        seconds: How long that took.
    """

    key: str
    table: str
    partitions: int
    rows: int
    bytes: int
    written: int
    seconds: float
