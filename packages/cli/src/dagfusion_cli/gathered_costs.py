"""Gathers what an estimate is made of: the objects of the catalog, lifecycle rules, and the requests of a service."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_cli.doctor.bucket_facts import read_bucket_facts, s3_client
from dagfusion_cli.doctor.examination import Diagnosis, open_catalog
from dagfusion_client.documents.query_documents import QueryInfo
from dagfusion_client.errors import SettingsError
from dagfusion_contract.uri import S3, object_path, store_parts, store_url
from dagfusion_query.catalog.checkpoint import open_checkpoint
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.cost.estimate import MONTH_DAYS, Estimate, LifecycleRule, Prices, StoredFiles, estimate, read_rules
from dagfusion_query.scan.large_objects import consolidation_gain

_DAY_S = 86_400
_SHORTEST_S = 60.0  # of a history that says something about a month


def read_files(config: EnvironmentConfig, now: datetime) -> tuple[list[StoredFiles], dict[str, str]]:
    """Return the files of each table that are in a bucket, and the bucket of each table.

    Raises:
        EventLogError: The event log cannot be read.
    """
    catalog = open_catalog(config, open_checkpoint(config.settings))
    try:
        return _files(catalog.current(), now)
    finally:
        catalog.close()


def storage_estimate(diagnosis: Diagnosis, prices: Prices, now: datetime) -> Estimate | None:
    """Return the estimate of a month from what an examination has read; None if no table has objects in a bucket.

    The requests of queries are not part of it. The examination reports rules that it could not read.
    """
    if diagnosis.snapshot is None:
        return None
    tables, buckets = _files(diagnosis.snapshot, now)
    if not tables:
        return None
    lifecycles = {name: read_rules(facts.lifecycle) for name, facts in diagnosis.buckets.items()}
    rules = {table: lifecycles.get(bucket, []) for table, bucket in buckets.items()}
    return estimate(tables, rules, prices, months=1, requests_month=0, requests_from="not included")


def _files(snapshot: Snapshot, now: datetime) -> tuple[list[StoredFiles], dict[str, str]]:
    found = [stored for table in snapshot.tables.values() for stored in _stored(table, now)]
    return [files for files, _ in found], {files.table: bucket for files, bucket in found}


def read_lifecycles(
    config: EnvironmentConfig, buckets: Mapping[str, str]
) -> tuple[dict[str, Sequence[LifecycleRule]], dict[str, str]]:
    """Return the rules of each table's bucket, and why they cannot be read, by bucket.

    Raises:
        MissingExtraError: The extra `aws` is not installed.
    """
    rules, unknown = dict[str, Sequence[LifecycleRule]](), dict[str, str]()
    for bucket in sorted(set(buckets.values())):
        facts = read_bucket_facts(s3_client(config.settings), bucket)
        rules[bucket] = read_rules(facts.lifecycle)
        why = facts.problem or facts.unknown.get("bucket_without_lifecycle")
        if why is not None:
            unknown[bucket] = why
    return {table: rules[bucket] for table, bucket in buckets.items()}, unknown


def counted_requests(history: Sequence[QueryInfo], now: datetime) -> tuple[int, int]:
    """Return the requests of a month that goes on as the history of a service, and the number of counted queries.

    Args:
        history: The queries of the service.
        now: The end of the history.

    Raises:
        SettingsError: The history has no query whose requests were counted, or is shorter than a minute.
    """
    queries = [one for one in history if one.stats.requests is not None]
    first = min((one.submitted_at for one in queries), default=now)
    seconds = (now - first).total_seconds()
    if not queries or seconds < _SHORTEST_S:
        raise SettingsError(
            "the service has no history of a minute or more in which requests were counted: give --requests instead"
        )
    total = sum(one.stats.requests or 0 for one in queries)
    return round(total / seconds * MONTH_DAYS * _DAY_S), len(queries)


def _stored(table: Table, now: datetime) -> list[tuple[StoredFiles, str]]:
    """Return the files of a table in S3, with their bucket; a table in several buckets counts as in the first."""
    files = table.files.filter(pc.starts_with(table.files["uri"], S3))
    if not len(files):
        return []
    uris = files["uri"].to_pylist()
    ages = pc.subtract(pa.scalar(now.astimezone(UTC), pa.timestamp("us", "UTC")), files["materialized_at"])
    days = np.asarray(ages.cast(pa.int64()).combine_chunks()) / 1e6 / _DAY_S
    bucket = store_parts(store_url(uris[0]))[1]
    gains = table.problem is None and consolidation_gain(table).would_gain
    sizes = np.asarray(files["size_bytes"].combine_chunks())
    return [(StoredFiles(str(table.name), [*map(object_path, uris)], sizes, days, gains), bucket)]
