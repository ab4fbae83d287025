"""Objects that are replaced only if they are still the version that was read, and a look at single objects."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.store import ObjectStore, StoredObject, checksum


class ReplacedError(Exception):
    """An object is not the version that was to be replaced, or is gone."""


@dataclass(frozen=True)
class ReplacingStore(ObjectStore):
    """A bucket in which some objects are replaced only if they have a known etag.

    Attributes:
        etags: By key, of the objects that are to be replaced; others are put as usual.
    """

    etags: Mapping[str, str] = field(default_factory=dict)

    async def put(self, key: str, content: pa.Buffer | Path) -> StoredObject:
        """Put one object.

        Raises:
            ReplacedError: Another object has taken the place of the one that was to be replaced.
            ConfigurationError: The store has no conditional PUT.
            StoreError: The store did not confirm the object.
        """
        etag = self.etags.get(key)
        if etag is None:
            return await super().put(key, content)
        body = _body(content)
        mode: Any = {"e_tag": etag}
        try:
            answer = await obstore.put_async(self.client, key, body, mode=mode, use_multipart=False)
        except (PreconditionError, AlreadyExistsError) as error:
            raise ReplacedError(self.uri(key)) from error
        except (BaseError, OSError) as error:
            if await asyncio.to_thread(self.is_missing, key, error):
                raise ReplacedError(self.uri(key)) from error
            if isinstance(error, NotSupportedError) or "NotImplemented" in str(error):
                raise ConfigurationError(
                    f"the object store of {self.root} cannot replace an object only if it is unchanged (PUT with"
                    " If-Match): use file_naming='per_run', or a store that can"
                ) from error
            raise self.failed("write", key, error) from error
        return StoredObject(key, len(body), answer["e_tag"], datetime.now(UTC), checksum(body))


def _body(content: pa.Buffer | Path) -> Any:
    return content.read_bytes() if isinstance(content, Path) else memoryview(content).cast("B")


def found_objects(store: ObjectStore, keys: Sequence[str], concurrency: int) -> list[StoredObject | None]:
    """Return the metadata of objects, in the order of the keys; None for missing ones.

    Raises:
        StoreError: The store did not answer.
    """

    def look(key: str) -> StoredObject | None:
        try:
            found = obstore.head(store.client, key)
        except (BaseError, OSError) as error:
            if store.is_missing(key, error):  # or the bucket is: the answer to HEAD does not say which
                return None
            raise store.failed("look at", key, error) from error
        return StoredObject(key, found["size"], found["e_tag"], found["last_modified"])

    with ThreadPoolExecutor(min(concurrency, max(len(keys), 1)), "dagfusion-head") as pool:
        return list(pool.map(look, keys))
