"""The IO managers, over a real S3 server."""

from typing import Any

import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import ObjectStore
from tests.stores import fields, instance, s3_fields

__all__ = ["fields", "instance", "s3_fields"]


@pytest.fixture
def store(s3_fields: dict[str, Any]) -> ObjectStore:
    return ObjectStore.s3(**s3_fields)


@pytest.fixture
def flat(fields: dict[str, Any]) -> S3ParquetIOManager:
    return S3ParquetIOManager(**fields)


@pytest.fixture
def hive(fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**fields)
