"""The data set of the gate, once for all tests here."""

from collections.abc import Iterator

import pytest

from benchmarks import dataset, regression
from benchmarks.dataset import Dataset
from benchmarks.wire import Meter, metered


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with dataset.running(tmp_path_factory.mktemp("gate"), regression.DAYS, print) as running:
        yield running


@pytest.fixture(scope="session")
def meter(data: Dataset) -> Iterator[Meter]:
    with metered(data.place.endpoint) as relay:
        yield relay
