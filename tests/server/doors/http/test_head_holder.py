"""The head of a response goes out together with what follows it at once, and alone only where nothing does."""

import asyncio
from typing import Any

import pytest

from dagfusion_server.doors.http.bounded_protocol import HeadHolder

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


@pytest.mark.parametrize(
    ("steps", "sent"),
    [
        ([HEAD, b"body"], [HEAD + b"body"]),
        ([HEAD, b"one", b"two", HEAD, memoryview(b"three")], [HEAD + b"one", b"two", HEAD + b"three"]),
        ([HEAD, None, b"late"], [HEAD, b"late"]),
        ([HEAD, "close"], [HEAD]),
        ([HEAD, "lost"], []),
        ([b"body"], [b"body"]),
        ([memoryview(b"body")], [b"body"]),
    ],
)
def test_what_is_sent_at_once(steps: list[Any], sent: list[bytes]) -> None:
    async def test() -> list[bytes]:
        transport = Transport()
        holder = HeadHolder(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        for step in steps:
            match step:
                case None:
                    await asyncio.sleep(0)
                case "close":
                    holder.close()
                case "lost":
                    transport.close()
                case _:
                    holder.write(step)
        await asyncio.sleep(0)
        assert holder.get_extra_info("peername") == "the peername"
        return transport.sent

    assert asyncio.run(test()) == sent
