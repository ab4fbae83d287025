"""The examination of an environment: gathers the facts, and hands them to the checks."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dagfusion_cli.doctor.bucket_facts import (
    BucketFacts,
    compare,
    folders,
    in_both,
    list_objects,
    named_objects,
    read_bucket_facts,
    s3_client,
    without_left_out,
)
from dagfusion_cli.doctor.checks import (
    CheckpointFacts,
    Fault,
    Unknown,
    check_bucket,
    check_checkpoint,
    check_clock,
    check_environment,
    check_objects,
    check_rights,
    check_schema_version,
    check_tables,
    unknown_facts,
    unreachable,
)
from dagfusion_client.errors import EventLogError, SnapshotError, StoreUnavailableError
from dagfusion_contract.uri import object_path, store_parts, store_url
from dagfusion_query.catalog.checkpoint import CheckpointStore, events_after, last_event_read, open_checkpoint
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.log_follower import purged_without_trace
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.discovery import open_discovery
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.event_log_interface import EventLog
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_query.event_log.stored_event import EventReader
from dagfusion_query.service_settings import LISTED_OBJECTS, ORPHANS_AFTER_H
from dagfusion_query.settings import listed

_POLL_INTERVAL_S = 3600.0  # the catalog is refreshed when it is needed
_DISCOVERY_WAIT_S = 30.0
_FRESH_S = 3600.0  # a later event may not be in the checkpoint yet


@dataclass
class Diagnosis:
    """The findings of one environment.

    Attributes:
        environment: Its name.
        faults: What is wrong.
        unknown: What could not be examined.
        snapshot: The catalog; None if the database cannot be read.
        buckets: The facts of each bucket, by its name.
        differing: The URIs of missing and changed objects, by table.
        endpoint_url: The object store; None for that of AWS.
    """

    environment: str
    faults: list[Fault] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    snapshot: Snapshot | None = field(default=None, repr=False)
    buckets: dict[str, BucketFacts] = field(default_factory=dict, repr=False)
    differing: dict[str, Sequence[str]] = field(default_factory=dict, repr=False)
    endpoint_url: str | None = None


@dataclass(frozen=True)
class Scope:
    """The limits of an examination.

    Attributes:
        max_objects: The most objects that are listed, of all tables together.
        orphans_after_h: Hours after which an object that no event names is orphaned.
        clock: The clock of this machine, in seconds since 1970.
    """

    max_objects: int = LISTED_OBJECTS
    orphans_after_h: float = ORPHANS_AFTER_H
    clock: Callable[[], float] = time.time


def examine(config: EnvironmentConfig, scope: Scope | None = None) -> Diagnosis:
    """Examine one environment. The local stack has one user and no bucket administration: both are left out there.

    Raises:
        MissingExtraError: The extra `aws` is not installed.
        SettingsError: A setting has a value that it cannot have.
    """
    scope = scope or Scope()
    found = Diagnosis(config.name, [*check_environment(config)], endpoint_url=config.settings.endpoint_url)
    where = f"event log of {config.name}"
    with ExitStack() as opened:
        try:
            log = _reader(config)
            opened.callback(log.close)
            _examine_database(log, found, where, scope, is_local_stack=config.settings.is_local_stack)
            catalog, problem = _open_catalog(config)
            opened.callback(catalog.close)
            found.faults += check_checkpoint(_checkpoint_facts(config, log, catalog, problem, scope.clock()), where)
        except EventLogError as error:
            found.faults.append(unreachable(error, where))
            if config.own.s3_bucket is not None:
                _examine_buckets(config, found, {config.own.s3_bucket: []}, scope)
            return found
        found.snapshot = catalog.current()
        found.faults += check_tables(found.snapshot)
        lost = _examine_buckets(config, found, _buckets(config, found.snapshot), scope)
        _examine_objects(config, found, catalog, lost, scope)
    return found


def open_catalog(config: EnvironmentConfig, checkpoint: CheckpointStore | None = None) -> LiveCatalog:
    """Return the catalog of an environment, which stores no snapshots and does not poll by itself.

    Raises:
        EventLogError: The event log cannot be read.
        StoreUnavailableError: The checkpoint cannot be read.
    """
    return LiveCatalog(
        _reader(config),
        config.name,
        poll_interval_s=_POLL_INTERVAL_S,
        discovery=open_discovery(config.settings, None, config.own.s3_bucket),
        discovery_wait_s=_DISCOVERY_WAIT_S,
        checkpoint=checkpoint,
        bucket=config.own.s3_bucket,
    )


def _open_catalog(config: EnvironmentConfig) -> tuple[LiveCatalog, str | None]:
    """Return the catalog, and why its checkpoint cannot be used."""
    checkpoint = open_checkpoint(config.settings)
    try:
        if checkpoint is not None:
            checkpoint.head()
        catalog = open_catalog(config, checkpoint)
    except (StoreUnavailableError, SnapshotError) as error:
        return open_catalog(config), str(error)
    return catalog, catalog.refusal


def _checkpoint_facts(
    config: EnvironmentConfig, log: EventLog, catalog: LiveCatalog, problem: str | None, now_s: float
) -> CheckpointFacts:
    purged = tuple(map("/".join, purged_without_trace(log, catalog.current())))
    folder, store = config.settings.catalog_checkpoint, catalog.checkpoint
    if problem is not None or store is None:
        is_sqlite = folder is not None and not log.keeps_ids
        return CheckpointFacts(folder, "an event log in SQLite has none" if is_sqlite else problem, purged=purged)
    try:
        head = store.head()
    except (StoreUnavailableError, SnapshotError) as error:
        return CheckpointFacts(folder, str(error), purged=purged)
    if head is None:
        return CheckpointFacts(folder, purged=purged)
    if store.known_etag is None:
        return CheckpointFacts(folder, "its objects of rows are missing or damaged", purged=purged)
    missed = events_after(catalog.current(), last_event_read(head.cursor), int((now_s - _FRESH_S) * 1e6))
    return CheckpointFacts(folder, None, head.written_at_s, missed, purged)


def _reader(config: EnvironmentConfig) -> EventLog:
    records = EventReader(listed(config.settings.metadata_keys), config.own.s3_bucket)
    return open_event_log(config.settings.event_log or "", records=records, region=config.settings.region)


def _examine_database(log: EventLog, found: Diagnosis, where: str, scope: Scope, *, is_local_stack: bool) -> None:
    log.identity()
    if not isinstance(log, PostgresEventLog):
        return  # a file of this machine has no user and no clock of its own
    facts = log.facts()
    found.faults += check_schema_version(facts, where)
    found.faults += check_clock(scope.clock() - facts.now_s, where)
    if not is_local_stack:
        found.faults += check_rights(facts, where)


def _buckets(config: EnvironmentConfig, snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the buckets, each with the folders of tables in it."""
    found: dict[str, list[str]] = {config.own.s3_bucket: []} if config.own.s3_bucket is not None else {}
    for table in snapshot.tables.values():
        for uri in folders(table):
            found.setdefault(store_parts(store_url(uri))[1], []).append(object_path(uri))
    return found


def _examine_buckets(
    config: EnvironmentConfig, found: Diagnosis, buckets: Mapping[str, Sequence[str]], scope: Scope
) -> set[str]:
    """Examine buckets, and return those that cannot be listed."""
    lost = set[str]()
    for bucket, its_folders in sorted(buckets.items()):
        facts = read_bucket_facts(s3_client(config.settings), bucket, its_folders, scope.clock)
        found.buckets[bucket] = facts
        found.faults += check_clock(facts.skew_s, facts.url)
        if facts.problem is not None:
            lost.add(bucket)
        if facts.problem is not None or not config.settings.is_local_stack:
            found.faults += check_bucket(facts, config.settings.region)
            found.unknown += unknown_facts(facts)
        elif "bucket_unreachable" in facts.unknown:
            found.unknown += [one for one in unknown_facts(facts) if one.check == "bucket_unreachable"]
    return lost


def _examine_objects(
    config: EnvironmentConfig, found: Diagnosis, catalog: LiveCatalog, lost: set[str], scope: Scope
) -> None:
    before = catalog.current()
    tables = [table for table in before.tables.values() if len(table.files) and not _buckets_of(table) & lost]
    if not any(map(folders, tables)):
        return
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with the client, it is installed

    client, left = s3_client(config.settings), scope.max_objects
    examined_at = datetime.fromtimestamp(scope.clock(), UTC)
    old = examined_at - timedelta(hours=scope.orphans_after_h)
    listings = {}
    for table in tables:
        try:
            listing = list_objects(client, table, left)
        except (ClientError, BotoCoreError) as error:
            found.unknown.append(Unknown("objects", str(table.name), str(error)))
            continue
        listings[table.name] = listing
        left -= len(listing.objects)
        if not listing.is_complete:
            why = f"the limit of {scope.max_objects:,} objects was reached: raise --max-objects"
            found.unknown.append(Unknown("objects", str(table.name), why))
    after = catalog.refresh()
    named, named_after = named_objects(before), named_objects(after)
    for table in tables:
        now, listed = after.tables.get(table.name), listings.get(table.name)
        if now is not None and listed is not None:
            first = compare(table, listed, old, named)
            both = in_both(first, compare(now, listed, old, named_after))
            both = without_left_out(both, now, config.settings.archived_after_days, examined_at)
            found.faults += check_objects(now, both)
            if both.missing or both.changed:
                found.differing[str(now.name)] = [*both.missing, *both.changed]


def _buckets_of(table: Table) -> set[str]:
    return {store_parts(store_url(folder))[1] for folder in folders(table)}
