"""A publisher that writes Iceberg metadata to a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_query.settings import Settings


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(f"file://{tmp_path}/_iceberg", Settings())
    yield made
    made.close()
