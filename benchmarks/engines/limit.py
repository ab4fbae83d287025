"""The physical limit: who knows the keys already, gets the objects and decodes them; no catalog, no SQL."""

import asyncio
from collections.abc import Sequence

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.dataset import FOLDER, Place

_REQUESTS_AT_ONCE = 64


class Limit:
    """Gets whole objects, many at once, and decodes some of their columns."""

    def __init__(self, place: Place) -> None:
        self._store = place.store()

    def read(self, partitions: Sequence[tuple[str, str]], columns: Sequence[str]) -> int:
        """Get and decode the objects of `(state, day)` partitions, and return their rows."""
        keys = [f"{FOLDER}/state={state}/date={day}/data.parquet" for state, day in partitions]
        if len(keys) == 1:
            return len(_decode(obstore.get(self._store, keys[0]).bytes(), columns))
        return asyncio.run(self._read(keys, columns))

    async def _read(self, keys: Sequence[str], columns: Sequence[str]) -> int:
        gate = asyncio.Semaphore(_REQUESTS_AT_ONCE)

        async def one(key: str) -> int:
            async with gate:
                answer = await obstore.get_async(self._store, key)
                return len(_decode(await answer.bytes_async(), columns))

        return sum(await asyncio.gather(*map(one, keys)))


def _decode(content: obstore.Bytes, columns: Sequence[str]) -> pa.Table:
    return pq.ParquetFile(pa.BufferReader(pa.py_buffer(content))).read(columns=list(columns))
