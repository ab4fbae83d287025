"""One deployment for all tests of the Iceberg door; each test has assets of its own."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from tests.query.doors.iceberg.lake import Lake, running
from tests.query.iceberg.conftest import publisher
from tests.stores import s3_fields

__all__ = ["publisher", "s3_fields"]

_names = itertools.count()


@pytest.fixture(scope="session")
def lake(s3_fields: dict[str, Any], sqlite_pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("iceberg")
    home = folder / "home"
    shutil.copytree(sqlite_pattern, home)
    with running(home, folder, s3_fields, "iceberg") as lake:
        yield lake


@pytest.fixture(scope="session")
def hive(s3_fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg")


@pytest.fixture(scope="session")
def flat(s3_fields: dict[str, Any]) -> S3ParquetIOManager:
    return S3ParquetIOManager(**s3_fields, prefix="iceberg")


@pytest.fixture
def name() -> str:
    """Of an asset that no other test has."""
    return f"asset_{next(_names)}"
