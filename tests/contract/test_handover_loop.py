"""A loop waits for threads that are handing it a result before it closes."""

import threading

import pytest

from dagfusion_contract.handover_loop import HandoverLoop


def test_it_closes_when_all_have_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes, goes_on = HandoverLoop(), threading.Event(), threading.Event()

    def wake(_: HandoverLoop) -> None:
        wakes.set()
        assert goes_on.wait(30)

    monkeypatch.setattr(HandoverLoop, "_write_to_self", wake)
    library = threading.Thread(target=loop.call_soon_threadsafe, args=(print,))
    library.start()
    assert wakes.wait(30)
    closing = threading.Thread(target=loop.close)
    closing.start()
    closing.join(0.2)
    assert not loop.is_closed()
    goes_on.set()
    closing.join(30)
    library.join(30)

    assert loop.is_closed()


def test_a_hand_over_within_another_ends_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may run a finalizer at any time."""
    loop, depth = HandoverLoop(), iter([1, 2])

    def wake(loop: HandoverLoop) -> None:
        if next(depth) == 1:
            loop.call_soon_threadsafe(print)

    monkeypatch.setattr(HandoverLoop, "_write_to_self", wake)
    loop.call_soon_threadsafe(print)

    assert not loop._handing_over
    loop.close()
