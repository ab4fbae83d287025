"""The data set of the gate, once for all tests here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import dataset, regression
from benchmarks.dataset import Dataset
from benchmarks.wire import Meter, metered


@pytest.fixture(scope="session")
def data(server_folder: Callable[[str], Path], alone: None) -> Iterator[Dataset]:  # noqa: ARG001  # what it does is counted
    with dataset.running(server_folder("gate"), regression.DAYS, print) as running:
        yield running


@pytest.fixture(scope="session")
def meter(data: Dataset) -> Iterator[Meter]:
    with metered(data.place.endpoint) as relay:
        yield relay
