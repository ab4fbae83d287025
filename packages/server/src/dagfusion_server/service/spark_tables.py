"""Decides which engine runs a statement, and pins the tables of those that the Spark Connect server runs.

A worker has planned the statement: it knows the tables, that the caller may read them, and the bytes of their files.
The Iceberg metadata of the same generation is written, and the versions of it are what the server reads.
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence

from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import EngineChoiceError, StoreUnavailableError, UnknownTableError
from dagfusion_client.sql_text import parse_table
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.spark import SparkServer
from dagfusion_interop.spark.pinned_tables import pinned_version
from dagfusion_interop.spark.sent_statements import INTERRUPT_PAUSES_S, interrupted
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.model import Table, layouts_of
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.past_finder import FoundPast
from dagfusion_server.service.query_registry import Query
from dagfusion_server.worker.messages import Mode, Planned, SparkRun

_log = logging.getLogger(__name__)

_PUBLISHING = 2  # tables at a time: each takes a core
_PATIENCE_S = 2.0


class SparkTables:
    """The engine of statements, and the tables of those that Spark runs.

    Args:
        settings: Have the bytes from which `auto` chooses the server.
        server: The server; None for none.
        publishers: Write the Iceberg metadata of environments.
        pauses_s: The pauses before the interrupts of one statement, in seconds.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        server: SparkServer | None,
        publishers: Mapping[str, Publisher],
        pauses_s: Sequence[float] = INTERRUPT_PAUSES_S,
    ) -> None:
        self._settings, self._server, self._publishers = settings, server, publishers
        self._publishing = asyncio.Semaphore(_PUBLISHING)
        self._pauses_s = pauses_s
        self._interrupts: set[asyncio.Task[None]] = set()

    def choice(self, query: Query, mode: Mode) -> EngineChoice:
        """Return the engine that was chosen; `local` for what is only planned.

        Raises:
            EngineChoiceError: Spark was chosen, and there is no server.
        """
        chosen = query.engine or EngineChoice(self._settings.engine)
        if mode is not Mode.run or chosen is EngineChoice.local:
            return EngineChoice.local
        if self._server is None:
            if chosen is EngineChoice.spark:
                raise EngineChoiceError(
                    'engine="spark" needs a Spark Connect server: set DAGFUSION_SPARK_REMOTE of the service, or use '
                    'engine="local"'
                )
            return EngineChoice.local
        return chosen

    async def run(
        self,
        choice: EngineChoice,
        planned: Planned,
        states: Mapping[str, EnvironmentState],
        past: FoundPast | None,
        grants: Grants,
    ) -> SparkRun | None:
        """Return how Spark runs a statement, over pinned versions of its tables; None for one that a worker runs.

        Args:
            choice: `spark` or `auto`.
            planned: What a worker says of the statement, over `states` or `past`.
            states: The catalogs.
            past: The tables of a statement as of the past; None for one over the current tables.
            grants: The caller's.

        Raises:
            EngineChoiceError: Spark was chosen, and a table cannot be read there.
            StoreUnavailableError: Metadata cannot be written.
        """
        size_bytes = sum(scan.bytes_kept for scan in planned.scans)
        if planned.tables is None:
            return None
        if choice is EngineChoice.auto and size_bytes < self._settings.spark_auto_bytes:
            return None
        try:
            pins = {name: await self._pin(parse_table(name), states, past, grants) for name in planned.tables}
        except (EngineChoiceError, StoreUnavailableError):
            if choice is EngineChoice.spark:
                raise
            return None
        return SparkRun(operation=str(uuid.uuid4()), pins=pins)

    def interrupt(self, run: SparkRun) -> None:
        """Interrupt a statement on the server, in the background: its worker may be dead, and cannot."""
        work = asyncio.get_running_loop().create_task(self._interrupt(run.operation))
        self._interrupts.add(work)
        work.add_done_callback(self._interrupts.discard)

    async def close(self) -> None:
        """Wait a moment until the server has heard of what was interrupted."""
        if self._interrupts:
            _, waiting = await asyncio.wait(self._interrupts, timeout=_PATIENCE_S)
            for work in waiting:
                work.cancel()

    async def _interrupt(self, operation: str) -> None:
        """Interrupt a statement until the server says that it ran: one that it still plans is not interrupted."""
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            if self._server is None or await asyncio.to_thread(interrupted, self._server, operation):
                return
        _log.info("the operation %s did not run on the Spark engine when it was interrupted", operation)

    async def _pin(
        self, name: TableName, states: Mapping[str, EnvironmentState], past: FoundPast | None, grants: Grants
    ) -> str:
        if past is not None:
            return await self._pin_past(name, past, grants)
        for environment, state in states.items():
            table = state.snapshot.tables.get(name)
            if table is not None and table.view is None and grants.allow(environment, name):
                layouts = layouts_of(table, state.snapshot.asset_states[table.asset_key])
                if environment in self._publishers:
                    self._publishers[environment].forget_dropped(state.snapshot)
                return await self._published(environment, table, layouts)
        raise UnknownTableError(f"table {name} no longer exists: run the statement again")

    async def _pin_past(self, name: TableName, past: FoundPast, grants: Grants) -> str:
        for environment, one in past.tables:
            if one.table.name == name and one.table.view is None and grants.allow(environment, name):
                return await self._published(environment, one.table, one.layouts)
        raise UnknownTableError(f"table {name} no longer exists as of the past: run the statement again")

    async def _published(self, environment: str, table: Table, layouts: Sequence[Layout]) -> str:
        """Return the version of a table's metadata, after it was written."""
        publisher = self._publishers.get(environment)
        async with self._publishing:
            return await asyncio.to_thread(pinned_version, publisher, environment, table, layouts)
