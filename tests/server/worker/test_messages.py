"""Frames come out as they went in, however the bytes are cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_server.worker.messages import HEADER, LONGEST, Decoder, Kind, Message, ProtocolError, encode

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
HEADS = st.dictionaries(st.text(max_size=8), SCALARS | st.lists(SCALARS, max_size=3), max_size=4)
BODIES = st.binary(max_size=300) | st.builds(bytes, st.integers(60_000, 200_000))
FRAMES = st.lists(st.tuples(st.sampled_from(Kind), HEADS, BODIES), max_size=6)


def decoded(stream: bytes, sizes: list[int]) -> list[Message]:
    """Feed bytes in pieces of these sizes, over and over."""
    decoder, messages, at, turn = Decoder(), [], 0, 0
    while True:
        while (message := decoder.next()) is not None:
            messages.append(message)
        if at == len(stream):
            return messages
        room = decoder.room()
        assert len(room) > 0
        piece = stream[at : at + min(len(room), sizes[turn % len(sizes)])]
        room[: len(piece)] = piece
        decoder.received(len(piece))
        at, turn = at + len(piece), turn + 1


@given(FRAMES, st.lists(st.integers(1, 100_000), min_size=1, max_size=5))
def test_messages_survive_any_cut(messages: list[tuple[Kind, dict[str, Any], bytes]], sizes: list[int]) -> None:
    stream = b"".join(piece for kind, head, body in messages for piece in encode(kind, head, [body[:7], body[7:]]))
    found = [(message.kind, message.head, bytes(message.body)) for message in decoded(stream, sizes)]
    assert found == messages


@given(st.sampled_from(Kind), BODIES, st.integers(1, 30))
def test_half_a_frame_is_none_yet(kind: Kind, body: bytes, missing: int) -> None:
    stream = b"".join(encode(kind, {"a": 1}, [body]))
    assert decoded(stream[: max(0, len(stream) - missing)], [65_536]) == []


def test_what_was_taken_is_not_overwritten() -> None:
    stream = b"".join(b"".join(encode(Kind.data, None, [bytes([number]) * 1000])) for number in range(200))
    messages = decoded(stream, [3_000])
    assert [bytes(message.body) for message in messages] == [bytes([number]) * 1000 for number in range(200)]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (HEADER.pack(b"?", 0, 0), "no messages of kind"),
        (HEADER.pack(b"D", 0, LONGEST + 1), "says that it has"),
        (HEADER.pack(b"E", 3, 0) + b"{{{", "not JSON"),
        (b"\xff" * 100, "no messages of kind"),
    ],
)
def test_nonsense_is_refused(stream: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decoded(stream, [1000])
