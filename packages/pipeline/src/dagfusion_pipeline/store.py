"""Objects in and out of a bucket: many at once, bounded in number and in bytes."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import MemoryStore, S3Store

from dagfusion_contract.secret_reference import MAX_AGE_S, is_reference
from dagfusion_pipeline.errors import ArchivedObjectError, ConfigurationError, MissingObjectError, StoreError
from dagfusion_pipeline.secrets_manager import resolved

if TYPE_CHECKING:
    from obstore.store import S3Credential  # a type alone

Result = TypeVar("Result")

MAX_UPLOAD_BYTES = 128 << 20
_RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}


@dataclass(frozen=True)
class StoredObject:
    """An object as the store confirmed it; its checksum is known when this process wrote it."""

    key: str
    size_bytes: int
    etag: str | None
    modified: datetime
    checksum: str | None = None


class ObjectVersion(NamedTuple):
    """An object as an event describes it."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True)
class ObjectStore:
    """A bucket.

    `client` is the obstore store of the bucket's root; `root` is its URI, such as `s3://bucket`.
    """

    client: S3Store | MemoryStore
    root: str

    @classmethod
    def s3(
        cls,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
    ) -> Self:
        """A bucket of S3, or of a server that speaks its protocol.

        Without keys, AWS's default credential chain applies: environment, profile, container and instance roles.
        A key may be a reference to a secret, `secretsmanager://name#key`, which is read again each minute.

        Raises:
            ConfigurationError: one key without the other, or no keys and none in AWS's chain.
        """
        settings: dict[str, Any] = _static_keys(access_key_id, secret_access_key, session_token)
        if any(map(is_reference, settings.values())):
            settings = {"credential_provider": partial(_keys_of_secrets, settings, region)}
        elif not settings:
            settings["credential_provider"] = _default_chain()
        if endpoint_url:
            settings["endpoint"] = endpoint_url
        if region:
            settings["region"] = region
        insecure = (endpoint_url or "").startswith("http://")
        client = S3Store(bucket, **settings, client_options={"allow_http": insecure}, retry_config=_RETRIES)
        return cls(client, f"s3://{bucket}")

    def uri(self, key: str) -> str:
        """The URI of an object, its key as it is."""
        return f"{self.root}/{key}"

    def uploads(self, concurrency: int, max_bytes: int = MAX_UPLOAD_BYTES) -> "Uploads":
        """A context in which objects are put in the background."""
        return Uploads(self, concurrency, max_bytes)

    def read_many(self, keys: Sequence[str], concurrency: int) -> list[obstore.Bytes | None]:
        """Get the objects, in the order of the keys; None for one that is not there.

        Raises:
            StoreError: an object could not be read.
        """
        with _background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._read_many(keys, concurrency), loop).result()

    async def _read_many(self, keys: Sequence[str], concurrency: int) -> list[obstore.Bytes | None]:
        slots = asyncio.Semaphore(concurrency)

        async def read(key: str) -> obstore.Bytes | None:
            async with slots:
                return await self._read(key)

        return await _all_or_none([read(key) for key in keys])

    async def _read(self, key: str) -> obstore.Bytes | None:
        try:
            result = await obstore.get_async(self.client, key)
            return await result.bytes_async()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._failed("read", key, error) from error
            return None
        except (BaseError, OSError) as error:
            raise self._failed("read", key, error) from error

    def read_versions(self, wanted: Sequence["ObjectVersion"], concurrency: int) -> list[obstore.Bytes | None]:
        """Get versions of objects, in order; None for one that is not there any more.

        Raises:
            StoreError: an object could not be read.
        """
        with _background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._read_versions(wanted, concurrency), loop).result()

    async def _read_versions(self, wanted: Sequence["ObjectVersion"], concurrency: int) -> list[obstore.Bytes | None]:
        slots = asyncio.Semaphore(concurrency)

        async def read(version: ObjectVersion) -> obstore.Bytes | None:
            async with slots:
                return await self._read_version(version)

        return await _all_or_none([read(version) for version in wanted])

    async def _read_version(self, version: "ObjectVersion") -> obstore.Bytes | None:
        try:
            answer = await obstore.get_async(self.client, version.key, options={"if_match": version.etag})
            if answer.meta["e_tag"] != version.etag or answer.meta["size"] != version.size_bytes:
                return None
            return await answer.bytes_async()
        except (FileNotFoundError, PreconditionError) as error:
            if "NoSuchBucket" in str(error):
                raise self._failed("read", version.key, error) from error
            return None
        except (BaseError, OSError) as error:
            raise self._failed("read", version.key, error) from error

    async def put(self, key: str, content: pa.Buffer | Path) -> StoredObject:
        """Put one object, from memory or from a file.

        Raises:
            StoreError: the store did not confirm the object.
        """
        size, digest = _size(content), checksum(content)
        # obstore takes unsigned bytes only, and Arrow's are signed.
        body = content if isinstance(content, Path) else memoryview(content).cast("B")
        try:
            answer = await obstore.put_async(self.client, key, body)
        except (BaseError, OSError) as error:
            raise self._failed("write", key, error) from error
        return StoredObject(key, size, answer["e_tag"], datetime.now(UTC), digest)

    def list_objects(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        """All objects below a folder, for maintenance: S3 answers with 1,000 at a time.

        Args:
            prefix: the folder.
            after: the key behind which the listing begins.

        Raises:
            StoreError: the store did not answer.
        """
        try:
            for page in obstore.list(self.client, prefix=prefix, offset=after):
                for found in page:
                    yield StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])
        except (BaseError, OSError) as error:
            raise self._failed("list", prefix, error) from error

    def list_folder(self, folder: str) -> Iterator[StoredObject]:
        """The objects in a folder, without those in its folders.

        Raises:
            StoreError: the store did not answer.
        """
        try:
            for found in obstore.list_with_delimiter(self.client, prefix=folder or None)["objects"]:
                yield StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])
        except (BaseError, OSError) as error:
            raise self._failed("list", folder, error) from error

    def look_at_many(self, keys: Sequence[str], concurrency: int) -> list[StoredObject | None]:
        """What the store has of objects now, in the order of the keys; None for one that is not there.

        Raises:
            StoreError: the store did not answer.
        """
        with _background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._look_at_many(keys, concurrency), loop).result()

    async def _look_at_many(self, keys: Sequence[str], concurrency: int) -> list[StoredObject | None]:
        slots = asyncio.Semaphore(concurrency)

        async def look_at(key: str) -> StoredObject | None:
            async with slots:
                try:
                    found = await obstore.head_async(self.client, key)
                except FileNotFoundError:
                    return None
                except (BaseError, OSError) as error:
                    raise self._failed("look at", key, error) from error
                return StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])

        return await _all_or_none([look_at(key) for key in keys])

    def delete_objects(self, keys: Sequence[str]) -> None:
        """Delete objects, for maintenance; those that are not there are no error.

        Raises:
            StoreError: the store did not confirm it.
        """
        try:
            obstore.delete(self.client, list(keys))
        except (BaseError, OSError) as error:
            raise self._failed("delete", f"{len(keys)} objects", error) from error

    def _failed(self, verb: str, key: str, error: Exception) -> StoreError:
        if "InvalidObjectState" in str(error):
            return ArchivedObjectError(
                f"{self.uri(key)} is in an archive storage class such as GLACIER, from which nothing can be read:"
                " restore it (aws s3api restore-object), leave the partition out, or materialize it again"
            )
        kind = MissingObjectError if isinstance(error, FileNotFoundError) else StoreError
        reason = str(error).partition("\n")[0]
        return kind(f"could not {verb} {self.uri(key)}: {reason}; check the bucket, the endpoint and the credentials")


class Uploads:
    """Puts objects in the background of the caller, who waits only when too many, or too many bytes, are under way.

    Leaving the context waits for every object, so that afterwards all of them are there; leaving it with an error
    gives up those that are not.
    """

    def __init__(self, store: ObjectStore, concurrency: int, max_bytes: int) -> None:
        self._store = store
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        # Waking the background for each of many small objects would cost more than encoding them.
        self._batch_objects = max(1, min(8, concurrency // 4))
        self._batch = _Batch()
        self._changed = threading.Condition()
        self._pending: dict[Future[None], _Batch] = {}
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._context = _background_loop()
        self._loop = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._start()
            self._drain(give_up=error is not None)
        finally:
            self._context.__exit__(None, None, None)

    def put(self, key: str, content: pa.Buffer | Path, done: Callable[[StoredObject], None]) -> None:
        """Start to put an object; `done` is called, in another thread, when the store has confirmed it.

        Raises:
            StoreError: an earlier object could not be put.
        """
        self._batch.work.append(partial(self._put, key, content, done))
        self._batch.size_bytes += _size(content)
        if len(self._batch.work) >= self._batch_objects or self._batch.size_bytes >= self._max_bytes // 4:
            self._start()

    async def _put(self, key: str, content: pa.Buffer | Path, done: Callable[[StoredObject], None]) -> None:
        done(await self._store.put(key, content))

    def _start(self) -> None:
        batch, self._batch = self._batch, _Batch()
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._has_room(batch))
            if self._failure is not None:
                raise self._failure
            future = asyncio.run_coroutine_threadsafe(batch.run(), self._loop)
            self._pending[future] = batch
        future.add_done_callback(self._settle)

    def _has_room(self, batch: "_Batch") -> bool:
        pending = self._pending.values()
        objects = sum(len(other.work) for other in pending) + len(batch.work)
        size_bytes = sum(other.size_bytes for other in pending) + batch.size_bytes
        return not pending or (objects <= self._concurrency and size_bytes <= self._max_bytes)

    def _settle(self, future: Future[None]) -> None:
        with self._changed:
            del self._pending[future]
            if not future.cancelled() and self._failure is None:
                self._failure = future.exception()
            self._changed.notify_all()

    def _drain(self, *, give_up: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: give_up or self._failure or not self._pending)
            unfinished = list(self._pending)
        for future in unfinished:
            future.cancel()
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
            if self._failure is not None and not give_up:
                raise self._failure


@dataclass
class _Batch:
    """Objects that are put at the same time."""

    work: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    size_bytes: int = 0

    async def run(self) -> None:
        await _all_or_none([start() for start in self.work])


def checksum(content: Any) -> str:
    """The checksum of an object's bytes as event metadata v1 writes it: `sha256:` and 64 hexadecimal digits.

    Args:
        content: the bytes, as any object with the buffer protocol, or the path of a file that holds them.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return f"sha256:{hashlib.sha256(memoryview(content)).hexdigest()}"


def _size(content: pa.Buffer | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else int(content.size)


async def _all_or_none(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    # In a thread of its own, because the caller may be inside an event loop already (a notebook is).
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dagfusion-store", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _static_keys(key_id: str | None, secret: str | None, token: str | None) -> dict[str, str]:
    if bool(key_id) != bool(secret) or (token and not key_id):
        raise ConfigurationError(
            "access_key_id and secret_access_key must be given together, or neither to use AWS's default chain"
        )
    named = {"access_key_id": key_id, "secret_access_key": secret, "session_token": token}
    return {name: value for name, value in named.items() if value}


def _keys_of_secrets(keys: Mapping[str, str], region: str | None) -> "S3Credential":
    return {
        "access_key_id": resolved(keys["access_key_id"], region) or "",
        "secret_access_key": resolved(keys["secret_access_key"], region) or "",
        "token": resolved(keys.get("session_token"), region),
        "expires_at": datetime.now(UTC) + timedelta(seconds=MAX_AGE_S),
    }


def _default_chain() -> object:
    # boto3 takes a third of a second to import, and only this needs it.
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415

    try:
        return Boto3CredentialProvider()
    except ValueError as error:
        raise ConfigurationError(
            "no AWS credentials were found: set access_key_id and secret_access_key, AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, a profile or a role"
        ) from error
