"""The service's Iceberg catalog of the data set."""

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore

from benchmarks import dataset_with_ids, service
from benchmarks.dataset import TABLE, Dataset, Place
from benchmarks.engines.iceberg import Objects

METADATA = "_iceberg_bench"


@dataclass(frozen=True)
class Catalog:
    """A running catalog.

    Attributes:
        url: What its clients are given.
        first_s: What the first request for the table took, when no metadata was there, in seconds.
    """

    url: str
    first_s: float

    def load(self) -> tuple[float, str]:
        """Request the table, and return how many seconds that took and where its metadata is."""
        return _load(self.url)


@contextlib.contextmanager
def serving(data: Dataset, folder: Path, objects: Objects = Objects.PARTITIONS) -> Iterator[Catalog]:
    """Run the service with a catalog in the data set's bucket; its metadata is deleted at the end.

    Args:
        data: The data set.
        folder: Gets the files of the service.
        objects: Those that the catalog names.
    """
    with contextlib.ExitStack() as stack:
        place, settings = data.place, dict[str, str]()
        if objects is Objects.WITH_IDS:
            place = dataset_with_ids.written(data, print)
        elif objects is Objects.CONSOLIDATED:
            stack.enter_context(data.consolidated())
            settings = {"DAGFUSION_ICEBERG_CONSOLIDATED": TABLE}
        settings = {
            **service.NO_RESULTS,
            "DAGFUSION_ICEBERG_METADATA": f"s3://{place.bucket}/{METADATA}",
            "DAGFUSION_ICEBERG_CREDENTIALS": "keys",
            **settings,
        }
        _delete_metadata(place)  # of a run that was killed
        stack.callback(_delete_metadata, place)
        server = stack.enter_context(service.serving(place.variables, folder, settings))
        url = f"{server.http}/iceberg"
        yield Catalog(url, _first_s(url))


def _first_s(url: str) -> float:
    """Return what the first request took that was answered: a service may be ready while it reads the event log."""
    deadline = time.monotonic() + service.READY_TIMEOUT_S
    while True:
        try:
            return _load(url)[0]
        except urllib.error.HTTPError as error:
            if error.code != http.client.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _load(url: str) -> tuple[float, str]:
    namespace, _, name = TABLE.partition(".")
    started = time.perf_counter()
    with urllib.request.urlopen(f"{url}/v1/namespaces/{namespace}/tables/{name}") as response:  # noqa: S310  # http
        content = response.read()
    return time.perf_counter() - started, str(json.loads(content)["metadata-location"])


def _delete_metadata(place: Place) -> None:
    store = place.store()
    obstore.delete(store, [meta["path"] for batch in obstore.list(store, f"{METADATA}/") for meta in batch])
