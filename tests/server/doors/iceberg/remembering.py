"""A service that knows the past of one table, for tests of its older snapshots."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dagfusion_client.returned_values import TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.model import layouts_of
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_query.event_log.event_log_interface import Moment
from tests.interop.iceberg.reading import Part, folded
from tests.query.catalog.folding import ORGS
from tests.server.fake_service import FakeService


def parts(count: int, columns: dict[str, Any] | None = None, number: int | None = None) -> list[Part]:
    return [Part([f"S{n}"], columns or {"id": "int64"}, {}, number=number) for n in range(count)]


def generation(
    event_id: int, at: datetime, first_at: datetime | None = None, *, is_wipe: bool = False
) -> TableGeneration:
    return TableGeneration(event_id, at, None, 1, 3, is_wipe, first_at or at)


class Remembering(FakeService):
    """A service that knows the past of one table.

    Attributes:
        states: The parts that the table had, by generation.
        told: What is said of them, newest first; `error` is raised instead of it.
        unreadable: What is raised instead of the state of an event.
        at_once: The most requests for revisions at a time.
        reads: How many states were read.
    """

    def __init__(
        self,
        states: Sequence[Sequence[Part]],
        *,
        ages: Sequence[float],
        firsts: Sequence[float] = (),
        wipes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.states, self.error, self.reads = [*states], None, 0
        self.unreadable: dict[int, Exception] = {}
        self.asking = self.at_once = 0
        now = datetime.now(UTC)
        times = [
            (now - timedelta(hours=age), now - timedelta(hours=first))
            for age, first in zip(ages, firsts or ages, strict=True)
        ]
        self.told = [
            generation(len(states[n]), times[n][0], first_at=times[n][1], is_wipe=n in wipes)
            for n in reversed(range(len(states)))
        ]

    async def revisions(self, name: TableName, limit: int, caller: Caller) -> Sequence[TableGeneration]:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        self.asking += 1
        self.at_once = max(self.at_once, self.asking)
        await asyncio.sleep(0)
        self.asking -= 1
        return self.told[:limit]

    async def past_table(self, name: TableName, event_id: int, caller: Caller) -> PastTable:  # noqa: ARG002
        self.reads += 1
        if event_id in self.unreadable:
            raise self.unreadable[event_id]
        state = folded(next(parts for parts in self.states if len(parts) == event_id), {"p": "string"})
        table = state.tables[name]
        return PastTable(table, Moment(event_id, 0), layouts_of(table, state.asset_states[ORGS]))
