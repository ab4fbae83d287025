"""The result of a repair of a table's events, as the pipeline returns it and `dagfusion doctor` shows it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

REPAIR = "dagfusion.repair"  # the group of entry points in which the pipeline has its `RepairTables`


@dataclass(frozen=True)
class Repair:
    """The events that a repair of an asset logged, or would log.

    Attributes:
        asset: The asset's key.
        examined: The number of current objects that were compared.
        missing: Partitions whose object is gone: they get a tombstone. None is the unpartitioned materialization.
        changed: Partitions whose object is another one than their event says: they get an event that says what it is.
        not_repaired: URIs of objects that differ and for which no event is logged, and why.
        not_examined: Partitions whose latest event names objects without a record of one. They stay as they are.
        stopped: The error that ended the repair early, after events were logged.
    """

    asset: str
    examined: int
    missing: Sequence[str | None]
    changed: Sequence[str | None]
    not_repaired: Mapping[str, str]
    not_examined: Sequence[str | None] = ()
    stopped: str | None = None

    def described(self, *, dry_run: bool) -> str:
        """Return a summary as lines of text."""
        verb = "would be logged" if dry_run else "are logged"
        lines = [f"{self.asset}: {self.examined} objects examined"]
        for partitions, what in ((self.missing, "tombstones of missing objects"), (self.changed, "corrected events")):
            if partitions:
                lines += [f"{len(partitions)} {what} {verb}", *map(_line, partitions)]
        if self.not_examined:
            lines.append(f"{len(self.not_examined)} partitions have no record of their objects: they were not examined")
            lines += map(_line, self.not_examined)
        lines += [f"not repaired: {uri}: {why}" for uri, why in self.not_repaired.items()]
        if self.stopped is not None:
            lines.append(f"stopped early: {self.stopped}")
        return "\n".join(lines)


@dataclass(frozen=True)
class RepairedTable(Repair):
    """The repair of a table.

    Attributes:
        table: The table's name, with its schema.
    """

    table: str = field(kw_only=True)


@dataclass(frozen=True)
class FailedRepair:
    """A table that could not be repaired.

    Attributes:
        table: The table's name, with its schema.
        error: The reason.
    """

    table: str
    error: str


class RepairTables(Protocol):
    """The function of the pipeline that repairs tables; `dagfusion doctor` finds it by its entry point."""

    def __call__(
        self, objects: Mapping[str, Collection[str]], endpoints: Mapping[str, str | None], *, dry_run: bool
    ) -> Sequence[RepairedTable | FailedRepair]:
        """Repair the events of objects of tables. A table that cannot be repaired does not stop the others.

        Args:
            objects: The URIs of the missing and changed objects, by the names of their tables, with their schemas. Only
                these are repaired.
            endpoints: The endpoint of the store in which they were looked for, by table; None for that of AWS.
            dry_run: Whether nothing is logged.

        Returns:
            One value for each table, in order.
        """


def _line(partition: str | None) -> str:
    return f"  {partition or 'unpartitioned'}"
