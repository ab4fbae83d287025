"""The code location's store, and an instance on disk."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest

from dagfusion_pipeline.environment import Credentials, Environment
from dagfusion_reference.definitions import code_location
from dagfusion_reference.defs.resources import resources
from tests.stores import fields, instance, s3_fields

__all__ = ["fields", "instance", "s3_fields"]


@pytest.fixture
def persistent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance that other processes and schedules can open."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def environment(fields: Mapping[str, Any]) -> Environment:
    keys = Credentials(fields["access_key_id"], fields["secret_access_key"])
    return Environment(
        "local", fields["bucket"], fields["region"], fields["prefix"], fields["endpoint_url"], credentials=keys
    )


@pytest.fixture
def location(environment: Environment) -> dg.Definitions:
    return code_location(resources(environment))
