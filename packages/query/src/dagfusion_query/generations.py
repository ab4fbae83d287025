"""The history of a table as callers see it: its generations, and the difference of two of its states."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dagfusion_contract.naming import TableName

GENERATIONS, GENERATIONS_LIMIT = 20, 100  # that are listed by default, and the most


@dataclass(frozen=True)
class TableGeneration:
    """What one run wrote of a table, or a wipe of it.

    Attributes:
        event_id: The run's last event: `as_of` this id reads the table as it was then.
        at: The time of the event.
        run_id: The run; None for an event outside of a run.
        partitions: The partitions that it wrote.
        rows: The rows in them; None if an event does not say, or if the run is old and over many partitions.
        is_wipe: True if the asset was wiped.
    """

    event_id: int
    at: datetime
    run_id: str | None
    partitions: int
    rows: int | None
    is_wipe: bool


@dataclass(frozen=True)
class PartitionChange:
    """A partition that differs between two states of a table.

    Attributes:
        partition_key: Dagster's; None for an unpartitioned table.
        change: `added`, `rewritten` or `gone`.
        rows_before: None if it was not there.
        rows_after: None if it is gone.
    """

    partition_key: str | None
    change: str
    rows_before: int | None
    rows_after: int | None


@dataclass(frozen=True)
class TableDiff:
    """The difference of two states of a table.

    Attributes:
        table: `schema.table`.
        before: The event of the first state; 0 for one before all events.
        after: The event of the second.
        added: Partitions that only the second has.
        rewritten: Partitions that were written again in between.
        gone: Partitions that only the first has.
        unchanged: The other partitions.
        rows_before: Rows of the first state.
        rows_after: Rows of the second.
        changes: The first 1,000 partitions that differ, by their keys.
    """

    table: str
    before: int
    after: int
    added: int
    rewritten: int
    gone: int
    unchanged: int
    rows_before: int
    rows_after: int
    changes: Sequence[PartitionChange]


def parse_table(name: str) -> TableName:
    """Return the name of a table as a user writes it.

    >>> str(parse_table('"local_silver".Orders'))
    'local_silver.orders'
    """
    schema, _, table = name.replace('"', "").lower().rpartition(".")
    return TableName(schema, table)
