"""The catalogs of several environments. Each is followed separately, so an outage of one does not affect the others."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import (
    AsOfError,
    EnvironmentUnavailableError,
    EventLogError,
    QueryError,
    SnapshotError,
    UnknownTableError,
)
from dagfusion_client.returned_values import TableDiff, TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.checkpoint import open_checkpoint
from dagfusion_query.catalog.checkpointer import Checkpointer
from dagfusion_query.catalog.live_catalog import Lag, LiveCatalog
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.past_catalog import PastCatalog
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.discovery import open_discovery
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.event_log_interface import AssetKey, EventLog, History
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_query.redact import unavailable
from dagfusion_query.settings import listed

_log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 30.0
_CLOSE_TIMEOUT_S = 5.0
_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class EnvironmentState:
    """One environment as it is now.

    Attributes:
        snapshot: The last generation that is on disk; an empty one when there never was any.
        folder: Where it is.
        problem: Why there is none; its text is fit for any caller.
        lag: How far behind the snapshot may be, and why; for the operator. None while there is no snapshot.
        dagster_url: Where its Dagster UI is.
        checkpoint_age_s: Seconds since its checkpoint had all that the catalog had; None for no checkpoint.
    """

    name: str
    snapshot: Snapshot
    folder: Path
    problem: QueryError | None
    lag: Lag | None
    dagster_url: str | None
    checkpoint_age_s: float | None = None

    @property
    def current_problem(self) -> QueryError | None:
        """The reason why the environment cannot be read now; without a `problem`, its last catalog is served."""
        if self.problem is not None or self.lag is None or self.lag.last_error is None:
            return self.problem
        return unavailable(self.name, self.lag.last_error)


class Environments:
    """Follows the event logs of a service's environments in the background. Thread-safe.

    The constructor returns at once: an environment has a problem until its first snapshot is there, and one whose
    database is down is tried again and again.

    Args:
        config: The environments; their folders are made.

    Raises:
        SettingsError: A folder cannot be made.
    """

    def __init__(self, config: Config) -> None:
        config.make_folders()
        self._followers = {environment.name: _Follower(environment) for environment in config.environments}

    def states(self) -> Mapping[str, EnvironmentState]:
        """Return what there is of each environment now, without asking any database."""
        return MappingProxyType({name: follower.state() for name, follower in self._followers.items()})

    def refresh(self, timeout_s: float) -> None:
        """Poll all event logs now. Environments that do not answer in time keep their catalog."""
        pool = ThreadPoolExecutor(len(self._followers), thread_name_prefix="dagfusion-refresh")
        try:
            wait([pool.submit(follower.refresh, timeout_s) for follower in self._followers.values()], timeout_s)
        finally:
            pool.shutdown(wait=False)

    def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return the Dagster runs of a table or a partition.

        Raises:
            EnvironmentUnavailableError: The database does not answer.
        """
        return self._followers[environment].history(asset_key, partition_key)

    @contextmanager
    def past(
        self, as_of: AsOf, names: Collection[TableName] | None, allow: Callable[[str, TableName], bool]
    ) -> Iterator[list[tuple[str, PastTable]]]:
        """Yield tables as of a past event or time, each with its environment; see `PastCatalog.tables`.

        Raises:
            AsOfError: The event or time is in the future, or an event id for tables of several environments.
            UnknownTableError: A table was not there yet.
            PastError: The event log does not have what a table held.
            EnvironmentUnavailableError: The database of an environment does not answer.
        """
        allowed = {name: partial(allow, name) for name in self._followers}
        followers = {name: one for name, one in self._followers.items() if one.names_any(names, allowed[name])}
        if as_of.event_id is not None and len(followers) > 1:
            raise AsOfError(
                f"event {as_of} is of one event log, and the statement is about several ({', '.join(followers)}): "
                "give a time, or name tables of one environment"
            )
        with ExitStack() as opened:
            yield [
                (name, table)
                for name, one in followers.items()
                for table in opened.enter_context(one.past(as_of, names, allowed[name]))
            ]

    def revisions(
        self, name: TableName, limit: int, allow: Callable[[str, TableName], bool]
    ) -> Sequence[TableGeneration]:
        """Return what the latest runs wrote of a table; see `PastCatalog.revisions`.

        Raises:
            UnknownTableError: There is none that may be read.
            EnvironmentUnavailableError: The database does not answer.
        """
        return self._follower_of(name, allow).revisions(name, limit)

    def diff(
        self, name: TableName, before: AsOf, after: AsOf | None, allow: Callable[[str, TableName], bool]
    ) -> TableDiff:
        """Compare two states of a table; see `PastCatalog.diff`. Raises as `revisions`, and `AsOfError`."""
        return self._follower_of(name, allow).diff(name, before, after)

    def _follower_of(self, name: TableName, allow: Callable[[str, TableName], bool]) -> "_Follower":
        """Return the environment of a table. A view's tables give no right to the history of its asset."""
        for environment, one in self._followers.items():
            if allow(environment, name) and one.names_any([name], partial(allow, environment)):
                return one
        raise UnknownTableError(f"there is no table {str(name)[:_SHOWN]}: /v1/tables lists all")

    def close(self) -> None:
        """Stop following. `states` still answers."""
        for follower in self._followers.values():
            follower.stop()
        for follower in self._followers.values():
            follower.close()


class _Follower:
    """One environment: its catalog, or the attempts to have one."""

    def __init__(self, config: EnvironmentConfig) -> None:
        self._config = config
        self._folder = Path(config.settings.state_dir or "")
        self._empty = Snapshot(0, config.name)
        self._catalog: LiveCatalog | None = None
        self._past: PastCatalog | None = None
        self._checkpointer: Checkpointer | None = None
        self._event_log: EventLog | None = None
        self._problem: QueryError = EnvironmentUnavailableError(
            f"environment {config.name} is being read for the first time: try again in a moment"
        )
        self._stopped, self._wake, self._tried = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._start, name=f"dagfusion-start-{config.name}", daemon=True)
        self._thread.start()

    def state(self) -> EnvironmentState:
        catalog, config, dagster_url = self._catalog, self._config, self._config.own.dagster_url
        if catalog is None:
            return EnvironmentState(config.name, self._empty, self._folder, self._problem, None, dagster_url)
        lag = catalog.lag()
        problem = None if catalog.is_saved else unavailable(config.name, lag.last_error)
        age_s = None if self._checkpointer is None else self._checkpointer.age_s
        return EnvironmentState(
            config.name, catalog.current(), self._folder, problem, lag, config.own.dagster_url, age_s
        )

    def refresh(self, timeout_s: float) -> None:
        if self._catalog is None:
            self._tried.clear()
            self._wake.set()
            self._tried.wait(timeout_s)
            return
        try:
            self._catalog.refresh()
        except QueryError as error:
            _log.info("environment %s was not refreshed: %s", self._config.name, error)

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        # By a reader of its own: the follower's may be in the middle of a full read.
        try:
            with closing(self._reader()) as reader:
                return reader.history(asset_key, partition_key)
        except QueryError as error:
            _log.info("environment %s: a history cannot be read: %s", self._config.name, error)
            raise unavailable(self._config.name, error) from None

    def names_any(self, names: Collection[TableName] | None, allow: Callable[[TableName], bool]) -> bool:
        """Return True if any of these names may be a table of this environment."""
        if self._past is not None:
            return bool(self._past.assets(names, allow))
        return any(name.schema.startswith(f"{self._config.name}_") and allow(name) for name in names or ())

    @contextmanager
    def past(
        self, as_of: AsOf, names: Collection[TableName] | None, allow: Callable[[TableName], bool]
    ) -> Iterator[list[PastTable]]:
        with ExitStack() as opened:
            with self._public_errors() as past:
                found = opened.enter_context(past.tables(past.moment(as_of), names, allow))
            yield found

    def revisions(self, name: TableName, limit: int) -> Sequence[TableGeneration]:
        with self._public_errors() as past:
            return past.revisions(_asset(past, name), limit)

    def diff(self, name: TableName, before: AsOf, after: AsOf | None) -> TableDiff:
        with self._public_errors() as past:
            return past.diff(_asset(past, name), before, after)

    @contextmanager
    def _public_errors(self) -> Iterator[PastCatalog]:
        """Turn errors of the event log into those that any caller may see."""
        if self._past is None:
            raise self._problem
        try:
            yield self._past
        except (EventLogError, SnapshotError, OSError) as error:
            _log.info("environment %s: the past cannot be read: %s", self._config.name, error)
            raise unavailable(self._config.name, error) from None

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        if self._catalog is None and self._event_log is not None:
            self._event_log.close()  # ends a first full read that is in progress

    def close(self) -> None:
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._checkpointer is not None:
            self._checkpointer.close()
        if self._past is not None:
            self._past.close()
        if self._catalog is not None:
            self._catalog.close()

    def _start(self) -> None:
        """Try to have a catalog until there is one."""
        retry_s, last_message = _FIRST_RETRY_S, ""
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                catalog = self._open()
                self._past = PastCatalog(catalog, self._reader, in_files=True)
                self._catalog = catalog
                self._write_checkpoints(catalog)
            except Exception as error:  # noqa: BLE001  # a bug in one environment must not take the service along
                self._problem = unavailable(self._config.name, error)
                if str(error) != last_message and not self._stopped.is_set():
                    last_message = str(error)
                    is_expected = isinstance(error, QueryError)
                    _log.warning(
                        "environment %s: %s", self._config.name, last_message, exc_info=None if is_expected else error
                    )
            self._tried.set()
            if self._catalog is not None or self._stopped.is_set():
                return
            self._wake.wait(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    def _write_checkpoints(self, catalog: LiveCatalog) -> None:
        if catalog.checkpoint is not None:
            self._checkpointer = Checkpointer(catalog, catalog.checkpoint)
            self._checkpointer.start()

    def _reader(self) -> EventLog:
        settings = self._config.settings
        records = EventReader(listed(settings.metadata_keys), self._config.own.s3_bucket)
        return open_event_log(settings.event_log or "", records=records, region=settings.region)

    def _open(self) -> LiveCatalog:
        config, settings = self._config, self._config.settings
        self._event_log = self._reader()
        return LiveCatalog(
            self._event_log,
            config.name,
            self._folder,
            poll_interval_s=settings.poll_interval_s,
            shared=True,
            discovery=open_discovery(settings, self._folder, config.own.s3_bucket),
            checkpoint=open_checkpoint(settings),
            bucket=config.own.s3_bucket,
        )


def _asset(past: PastCatalog, name: TableName) -> AssetKey:
    found = past.asset(name)
    if found is None:
        raise UnknownTableError(f"there is no table {name}")
    return found
