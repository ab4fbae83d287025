"""The columns of the statements that were described last, so that a client that prepares one again needs no worker."""

import hashlib
import threading
from collections import OrderedDict

import pyarrow as pa

from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.environments import Environments
from dagfusion_query.documents.codec import encode
from dagfusion_query.service.query_registry import Query, sources
from dagfusion_query.worker.messages import encode_parameters

_MOST = 256  # statements


class DescribedStatements:
    """Columns by all that they depend on: text, parameters, grants, and the generation of each environment.

    Thread-safe.

    Args:
        environments: The catalogs.
    """

    def __init__(self, environments: Environments) -> None:
        self._environments = environments
        self._lock = threading.Lock()
        self._schemas: OrderedDict[bytes, pa.Schema] = OrderedDict()

    def key(self, query: Query, caller: Caller) -> bytes | None:
        """Return what the columns of a statement depend on now; None for a statement over past tables."""
        if query.as_of is not None:
            return None
        digest = hashlib.blake2b()
        catalogs = encode(sources(self._environments, caller.grants))
        for part in (
            query.sql.encode(),
            encode_parameters(query.params),
            encode(sorted(caller.grants.names)),
            catalogs,
        ):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def get(self, key: bytes | None) -> pa.Schema | None:
        """Return columns that are known."""
        with self._lock:
            if key is None or key not in self._schemas:
                return None
            self._schemas.move_to_end(key)
            return self._schemas[key]

    def put(self, key: bytes | None, schema: pa.Schema) -> None:
        """Keep columns, and evict the least recently used."""
        if key is None:
            return
        with self._lock:
            self._schemas[key] = schema
            while len(self._schemas) > _MOST:
                self._schemas.popitem(last=False)
