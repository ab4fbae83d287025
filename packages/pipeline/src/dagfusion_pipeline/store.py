"""Objects in and out of a bucket, many at once.

`ObjectStore.failed` is the one place of the pipeline that turns the error of a store, such as a 403, into one of its
own. `dagfusion_contract.store_failure` says why the query side has another.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError
from obstore.store import MemoryStore, S3Store

from dagfusion_contract.environments import check_store
from dagfusion_contract.secret_reference import MAX_AGE_S, is_reference
from dagfusion_contract.store_failure import Listing, archived_text, failed_text, is_archived, is_without_bucket
from dagfusion_contract.uri import bucket_url
from dagfusion_pipeline.environment import READER, SECRET_VARIABLES
from dagfusion_pipeline.errors import ArchivedObjectError, ConfigurationError, MissingObjectError, StoreError
from dagfusion_pipeline.secrets_manager import resolved
from dagfusion_pipeline.uploads import Uploads, all_or_none, background_loop, size_of

if TYPE_CHECKING:
    from obstore.store import S3Credential  # a type alone

MAX_UPLOAD_BYTES = 128 << 20
_NEXT_STEP = "check the bucket, the endpoint and the credentials"
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
        """Return a bucket of S3, or of a server that speaks its protocol.

        Without keys, AWS's default credential chain applies: environment, profile, container and instance roles.
        A key may be a reference to a secret, `secretsmanager://name#key`, which is read again each minute.

        Raises:
            ConfigurationError: One key without the other, or no keys and none in AWS's chain.
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
        return cls(client, bucket_url(bucket).rstrip("/"))

    def uri(self, key: str) -> str:
        """Return the URI of an object, its key as it is."""
        return f"{self.root}/{key}"

    def uploads(self, concurrency: int, max_bytes: int = MAX_UPLOAD_BYTES) -> Uploads[StoredObject]:
        """Return a context in which objects are put in the background."""
        return Uploads(self.put, concurrency, max_bytes)

    def read_many(self, keys: Sequence[str], concurrency: int) -> list[obstore.Bytes | None]:
        """Return the objects' bytes, in the order of the keys; None for missing ones.

        Raises:
            StoreError: An object could not be read.
        """
        with background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._read_many(keys, concurrency), loop).result()

    async def _read_many(self, keys: Sequence[str], concurrency: int) -> list[obstore.Bytes | None]:
        slots = asyncio.Semaphore(concurrency)

        async def read(key: str) -> obstore.Bytes | None:
            async with slots:
                return await self._read(key)

        return await all_or_none([read(key) for key in keys])

    async def _read(self, key: str) -> obstore.Bytes | None:
        try:
            result = await obstore.get_async(self.client, key)
            return await result.bytes_async()
        except (BaseError, OSError) as error:
            if await asyncio.to_thread(self.is_missing, key, error):
                return None
            raise self.failed("read", key, error) from error

    def read_versions(self, versions: Sequence["ObjectVersion"], concurrency: int) -> list[obstore.Bytes | None]:
        """Return the bytes of versions of objects, in order; None for missing ones.

        Raises:
            StoreError: An object could not be read.
        """
        with background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._read_versions(versions, concurrency), loop).result()

    async def _read_versions(self, versions: Sequence["ObjectVersion"], concurrency: int) -> list[obstore.Bytes | None]:
        slots = asyncio.Semaphore(concurrency)

        async def read(version: ObjectVersion) -> obstore.Bytes | None:
            async with slots:
                return await self._read_version(version)

        return await all_or_none([read(version) for version in versions])

    async def _read_version(self, version: "ObjectVersion") -> obstore.Bytes | None:
        try:
            answer = await obstore.get_async(self.client, version.key, options={"if_match": version.etag})
            if answer.meta["e_tag"] != version.etag or answer.meta["size"] != version.size_bytes:
                return None
            return await answer.bytes_async()
        except PreconditionError:
            return None
        except (BaseError, OSError) as error:
            if await asyncio.to_thread(self.is_missing, version.key, error):
                return None
            raise self.failed("read", version.key, error) from error

    async def put(self, key: str, content: pa.Buffer | Path) -> StoredObject:
        """Put one object, from memory or from a file.

        Raises:
            StoreError: The store did not confirm the object.
        """
        size, digest = size_of(content), checksum(content)
        # obstore takes unsigned bytes only, and Arrow's are signed.
        body = content if isinstance(content, Path) else memoryview(content).cast("B")
        try:
            answer = await obstore.put_async(self.client, key, body)
        except (BaseError, OSError) as error:
            raise self.failed("write", key, error) from error
        return StoredObject(key, size, answer["e_tag"], datetime.now(UTC), digest)

    def list_objects(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        """Yield all objects below a folder, for maintenance: S3 answers with 1,000 at a time.

        Args:
            prefix: The folder.
            after: The key behind which the listing begins.

        Raises:
            StoreError: The store did not answer.
        """
        try:
            for page in obstore.list(self.client, prefix=prefix, offset=after):
                for found in page:
                    yield StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])
        except (BaseError, OSError) as error:
            raise self.failed("list", prefix, error) from error

    def list_folder(self, folder: str) -> Iterator[StoredObject]:
        """Yield the objects in a folder, without those in its folders.

        Raises:
            StoreError: The store did not answer.
        """
        try:
            for found in obstore.list_with_delimiter(self.client, prefix=folder or None)["objects"]:
                yield StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])
        except (BaseError, OSError) as error:
            raise self.failed("list", folder, error) from error

    def look_at_many(self, keys: Sequence[str], concurrency: int) -> list[StoredObject | None]:
        """Return the current metadata of objects, in the order of the keys; None for missing ones.

        Raises:
            StoreError: The store did not answer.
        """
        with background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(self._look_at_many(keys, concurrency), loop).result()

    async def _look_at_many(self, keys: Sequence[str], concurrency: int) -> list[StoredObject | None]:
        slots = asyncio.Semaphore(concurrency)

        async def look_at(key: str) -> StoredObject | None:
            async with slots:
                try:
                    found = await obstore.head_async(self.client, key)
                except (BaseError, OSError) as error:
                    if await asyncio.to_thread(self.is_missing, key, error):
                        return None
                    raise self.failed("look at", key, error) from error
                return StoredObject(found["path"], found["size"], found["e_tag"], found["last_modified"])

        return await all_or_none([look_at(key) for key in keys])

    def delete_objects(self, keys: Sequence[str]) -> None:
        """Delete objects, for maintenance; those that are not there are no error.

        Raises:
            StoreError: The store did not confirm it.
        """
        try:
            obstore.delete(self.client, list(keys))
        except (BaseError, OSError) as error:
            raise self.failed("delete", f"{len(keys)} objects", error) from error

    def is_missing(self, key: str, error: Exception) -> bool:
        """Return True if a request failed because the object is not there.

        S3 answers with 403 in place of 404 if a role may list some folders only. Then this lists the object's folder.

        Args:
            key: The object.
            error: As obstore raised it.
        """
        if not isinstance(error, PermissionDeniedError) or is_archived(error):
            return isinstance(error, FileNotFoundError) and not is_without_bucket(error)
        listing = Listing.of(key)
        try:
            pages = obstore.list(self.client, listing.folder, offset=listing.after, chunk_size=1000)
            return listing.lacks([found["path"] for found in page] for page in pages)
        except (BaseError, OSError):
            return False  # it may not be listed, either: the refusal is the caller's error

    def failed(self, verb: str, key: str, error: Exception) -> StoreError:
        """Return the error of a request that the store did not fulfil.

        Args:
            verb: What was to be done: read, write, list, look at, delete.
            key: The object, or the folder.
            error: As obstore or the file system raised it.
        """
        if is_archived(error):
            return ArchivedObjectError(archived_text(self.uri(key), "materialize it again"))
        kind = MissingObjectError if isinstance(error, FileNotFoundError) else StoreError
        return kind(failed_text(error, f"could not {verb} {self.uri(key)}", _NEXT_STEP))


def checksum(content: Any) -> str:
    """Return the checksum of an object's bytes as event metadata v1 writes it: `sha256:` and 64 hexadecimal digits.

    Args:
        content: The bytes, as any object with the buffer protocol, or the path of a file that holds them.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return f"sha256:{hashlib.sha256(memoryview(content)).hexdigest()}"


def _static_keys(key_id: str | None, secret: str | None, token: str | None) -> dict[str, str]:
    keys = {"access_key_id": key_id, "secret_access_key": secret, "session_token": token}
    by_variable = {SECRET_VARIABLES[name]: value for name, value in keys.items()}
    check_store(READER, by_variable, name=lambda variable: variable.removeprefix("AWS_").lower())
    return {name: value for name, value in keys.items() if value}


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
