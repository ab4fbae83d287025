"""The HTTP door over a service of a test, on a real socket."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import uvicorn.server
from starlette.routing import BaseRoute

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.address import Address, tls_context
from dagfusion_server.doors.http.http_door import HttpDoor, create_app
from dagfusion_server.service.service import Service

# uvicorn sleeps for a tenth of a second before it looks whether it shall end, and once more when it ends.
BRISK = SimpleNamespace(**vars(asyncio) | {"sleep": lambda seconds: asyncio.sleep(seconds / 20)})


@contextmanager
def serving(
    service: Service,
    tokens: Tokens,
    settings: ServiceSettings,
    address: str = "127.0.0.1:0",
    pages: Sequence[BaseRoute] = (),
) -> Iterator[HttpDoor]:
    """Open the door on a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="http-door")
    thread.start()

    async def opened() -> HttpDoor:
        app, tls = create_app(service, tokens, settings, pages), tls_context(settings)
        door = HttpDoor(app, Address.parse(address, "address"), tls=tls, grace_s=60)  # nothing here makes use of it
        await door.start()
        return door

    with mock.patch.object(uvicorn.server, "asyncio", BRISK):
        door = asyncio.run_coroutine_threadsafe(opened(), loop).result(30)
        try:
            yield door
        finally:
            try:
                asyncio.run_coroutine_threadsafe(door.stop(), loop).result(30)
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join(30)
                loop.close()
