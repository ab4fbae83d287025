"""A real S3 server, and for each test a folder of its own in its bucket."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagfusion_stack import object_store

BUCKET = "lake"
_prefixes = itertools.count()


@pytest.fixture(scope="session")
def s3_fields(server_folder: Callable[[str], Path]) -> Iterator[dict[str, Any]]:
    """The fields of an IO manager that name the server and its bucket."""
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as server:
        yield {
            "bucket": BUCKET,
            "endpoint_url": server.endpoint,
            "region": object_store.REGION,
            "access_key_id": server.credentials.access_key_id,
            "secret_access_key": server.credentials.secret_access_key,
        }


@pytest.fixture
def fields(s3_fields: dict[str, Any]) -> dict[str, Any]:
    """Likewise, with a prefix that no other test writes to."""
    return {**s3_fields, "prefix": f"test-{next(_prefixes)}"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
