"""The runtime of the engine: threads with deep stacks for planning, an event loop for execution, and object stores."""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import obstore
import pyarrow as pa
from datafusion import RecordBatchStream, SessionContext
from datafusion.object_store import AmazonS3
from obstore.store import ObjectStore

from dagfusion_client.errors import ConnectionClosedError, StoreUnavailableError
from dagfusion_contract.handover_loop import HandoverLoop
from dagfusion_contract.uri import object_path, store_parts, store_url
from dagfusion_query.object_store import open_store, store_keys
from dagfusion_query.settings import Settings

T = TypeVar("T")

STACK_BYTES = (
    512 << 20
)  # address space, not memory: a statement nested 10,000 deep overflows the usual 8 MB and ends the process
PLANNERS = 4
_PROBE = {"connect_timeout": "2s", "timeout": "5s", "max_retries": 0}
_END_S = 5.0  # that coroutines have to end when their loop is closed
_FETCH = {"connect_timeout": "5s", "timeout": "30s", "max_retries": 10}


def closed() -> ConnectionClosedError:
    """Return the error of a call on a closed embedded connection."""
    return ConnectionClosedError("this connection is closed: connect again")


class Planners:
    """A few threads with stacks deep enough that no statement overflows them while it is planned."""

    def __init__(self, count: int = PLANNERS) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        before = threading.stack_size(STACK_BYTES)
        try:
            self._threads = [
                threading.Thread(target=self._run, name="dagfusion-plan", daemon=True) for _ in range(count)
            ]
            for thread in self._threads:
                thread.start()
        finally:
            threading.stack_size(before)

    def run(self, function: Callable[[], T]) -> T:
        """Run a function on a deep stack, and return or raise what it does.

        Raises:
            ConnectionClosedError: The threads have ended.
        """
        return self._submit(function).result()

    async def call(self, function: Callable[[], T]) -> T:
        """Await a function that runs on a deep stack."""
        return await asyncio.wrap_future(self._submit(function))

    def close(self) -> None:
        """End the threads once their work is done; once more does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._work.put(None)

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise closed()
            self._work.put((future, function))
        return future

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, function = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # it is the caller's, who waits for it
                future.set_exception(error)
            del work, future, function


class Loop:
    """An event loop on a thread of its own: a batch awaited there can be given up, unlike a blocking call into Rust.

    Args:
        new: Makes the loop.
    """

    def __init__(self, new: Callable[[], asyncio.AbstractEventLoop] = HandoverLoop) -> None:
        self._loop = new()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._loop.run_forever, name="dagfusion-execute", daemon=True)
        self._thread.start()
        self._process = os.getpid()
        atexit.register(self._close_at_exit)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine; cancelling the future cancels it.

        Raises:
            ConnectionClosedError: The loop is closed.
        """
        with self._lock:
            if self._closed:
                coroutine.close()  # one that is dropped unstarted prints a warning
                raise closed()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what was submitted and stop the loop; once more does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()
        atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Close the loop at the end of the process, if the program has not closed its connection."""
        if os.getpid() == self._process:  # a fork has no thread of the loop
            self.close()

    async def _end(self) -> None:
        """Start what was submitted last, and cancel it with the rest: a task that never starts prints a warning."""
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_S)


async def arrow_batches(stream: RecordBatchStream) -> AsyncIterator[pa.RecordBatch]:
    """Yield the batches of a stream of DataFusion.

    Its end is an exception that DataFusion's thread may be the last to drop, with all that the frames of its traceback
    hold: that thread would remove the session's folder, and abort the process if Python shuts down meanwhile.
    """
    while True:
        try:
            batch = await anext(stream)
        except StopAsyncIteration as end:
            end.__traceback__ = None
            return
        yield batch.to_pyarrow()


class Job(Generic[T]):
    """A coroutine that runs on a loop. Its end can be awaited after it was cancelled; a future of `submit` ends before.

    Thread-safe.

    Args:
        loop: The loop.
        coroutine: The coroutine.

    Raises:
        ConnectionClosedError: The loop is closed.
    """

    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._task: asyncio.Future[T]
        self._ended = loop.submit(self._run(coroutine))

    def cancel(self) -> None:
        """Cancel the coroutine; after its end this does nothing.

        Raises:
            ConnectionClosedError: The loop is closed.
        """
        self._loop.submit(self._cancel())

    def result(self) -> T:
        """Wait for the end of the coroutine, and return or raise what it does.

        Raises:
            CancelledError: It was cancelled.
        """
        return self._ended.result()

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.ensure_future(coroutine)
        return await self._task

    async def _cancel(self) -> None:
        self._task.cancel()


async def together(calls: Iterable[Callable[[], Coroutine[Any, Any, None]]], concurrency: int) -> None:
    """Await calls, so many at once; the first error ends all."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    await all_ended([work() for _ in range(concurrency)])


async def all_ended(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await coroutines. The first error ends all, and all have ended when it is raised: their requests are counted."""
    tasks = [*map(asyncio.ensure_future, coroutines)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Stores:
    """S3 buckets and the local file system, for DataFusion and for direct requests.

    Args:
        environments: Endpoint, region and credentials by environment; AWS's own environment variables and instance
            roles fill what is not set.
    """

    def __init__(self, environments: Mapping[str, Settings]) -> None:
        self._environments = environments
        self._stores: dict[str, tuple[Mapping[str, str | None], Any]] = {}
        self._direct: dict[tuple[str, str, int], ObjectStore] = {}
        self._lock = threading.Lock()

    def settings(self, environment: str) -> Settings:
        """Return what an environment's stores are made from.

        Raises:
            StoreUnavailableError: Nothing is known of this environment.
        """
        if environment not in self._environments:
            raise StoreUnavailableError(f"there are no settings for the object store of environment {environment!r}")
        return self._environments[environment]

    def register(self, context: SessionContext, environment: str, url: str) -> None:
        """Register an environment's store with a DataFusion context, so that plans over it can run.

        Args:
            context: The context.
            environment: The environment's name.
            url: What plans call the store, see `scan_store`.

        Raises:
            StoreUnavailableError: The store cannot be set up from the settings.
        """
        scheme, bucket = store_parts(url)
        if scheme == "file":
            return  # every context has the local file system
        settings = self.settings(environment)
        keys = store_keys(settings)
        with self._lock:
            registered, store = self._stores.get(url, (None, None))
            if registered != keys:
                store = self._datafusion_store(scheme.rpartition("+")[2], bucket, settings, keys)
                self._stores[url] = keys, store
        context.register_object_store(f"{scheme}://", store, bucket or None)

    def head(self, uri: str, environment: str, *, reads: bool = False) -> Mapping[str, Any]:
        """Return what the store says of one object: size, e_tag, last_modified.

        Args:
            uri: The object.
            environment: Whose settings apply.
            reads: Whether its first byte is read, too.

        Raises:
            FileNotFoundError: There is no such object.
            obstore.exceptions.BaseError: The store did not answer, or refused.
        """
        store, path = self.direct(uri, environment), object_path(uri)
        if reads:
            obstore.get_range(store, path, start=0, length=1)
        return dict(obstore.head(store, path))

    def direct(self, uri: str, environment: str) -> ObjectStore:
        """Return an obstore client for the store of a URI: one quick try, no long retries."""
        return self._client(uri, environment, **_PROBE)

    def fetching(self, uri: str, environment: str) -> ObjectStore:
        """Return an obstore client for the store of a URI that tries a request as often as a scan does."""
        return self._client(uri, environment, **_FETCH)

    def _client(self, uri: str, environment: str, **options: Any) -> ObjectStore:
        key = environment, store_url(uri), options["max_retries"]
        with self._lock:
            if key not in self._direct:
                self._direct[key] = open_store(key[1], self.settings(environment), **options)
            return self._direct[key]

    def _datafusion_store(self, scheme: str, bucket: str, s: Settings, keys: Mapping[str, str | None]) -> Any:
        if scheme != "s3":
            raise StoreUnavailableError(f"a file is in {scheme}://{bucket}; DagFusion reads s3:// and file://")
        try:
            return AmazonS3(
                bucket_name=bucket,
                region=s.region,
                **keys,
                endpoint=s.endpoint_url,
                allow_http=s.allows_http,
            )
        except BaseException as error:  # a Rust panic, which is not an Exception
            raise StoreUnavailableError(
                f"the S3 client for bucket {bucket!r} cannot be made: "
                "check AWS_ENDPOINT_URL, AWS_REGION and the AWS_* keys"
            ) from error
