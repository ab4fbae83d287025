"""Whose query runs next, for any coming and going."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import TooBusyError
from dagfusion_server.service.admission import Admission, AdmissionPlace

USERS = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.just("enter"), USERS) | st.tuples(st.just("leave"), st.integers(0, 30)), max_size=60)


@given(STEPS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 5), st.integers(0, 4))
def test_limits_hold_and_no_slot_is_left_empty(
    steps: list[tuple[str, object]], slots: int, user_slots: int, queue: int, user_queue: int
) -> None:
    admission = Admission(slots, user_slots, queue, user_queue)
    places: list[AdmissionPlace] = []
    started: list[int] = []
    for number, (step, argument) in enumerate(steps):
        if step == "enter":
            waiting = [place.user for place in places if not place.is_running]
            is_full = len(waiting) >= queue or waiting.count(str(argument)) >= user_queue
            with suppress(TooBusyError) if is_full else nullcontext():
                places.append(admission.enter(str(argument), _note(started, number)))
        elif places:
            admission.leave(places.pop(int(str(argument)) % len(places)), 0.5)
        running = Counter(place.user for place in places if place.is_running)
        waiting_users = {place.user for place in places if not place.is_running}
        assert admission.running == running.total() <= slots
        assert admission.waiting == len(places) - running.total() <= queue
        assert all(count <= user_slots for count in running.values())
        assert running.total() == slots or all(running[user] == user_slots for user in waiting_users)
    assert len(started) == len(set(started))


def _note(started: list[int], number: int) -> Callable[[], None]:
    return lambda: started.append(number)


def test_a_user_s_queries_run_in_their_order_and_users_in_turn() -> None:
    admission = Admission(1, 1, 100, 100)
    order: list[str] = []
    running = admission.enter("x", lambda: None)
    names = ["a1", "a2", "a3", "b1", "b2", "c1"]
    places = {name: admission.enter(name[0], _append(order, name)) for name in names}
    for _ in names:
        admission.leave(running)
        running = places[order[-1]]
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def _append(order: list[str], name: str) -> Callable[[], None]:
    return lambda: order.append(name)


def test_who_gives_up_waiting_makes_room() -> None:
    admission = Admission(1, 1, 1, 1)
    admission.enter("a", lambda: None)
    waiting = admission.enter("b", lambda: None)
    with pytest.raises(TooBusyError, match="DAGFUSION_QUEUE_LENGTH"):
        admission.enter("c", lambda: None)
    admission.leave(waiting)
    admission.leave(waiting)
    assert admission.enter("c", lambda: None).is_running is False


def test_the_time_to_come_back_grows_with_the_queue() -> None:
    admission = Admission(1, 1, 100, 100)
    for _ in range(50):
        admission.leave(admission.enter("a", lambda: None), 10.0)
    admission.enter("a", lambda: None)
    short = admission.retry_after_s()
    for _ in range(4):
        admission.enter("b", lambda: None)
    assert short < admission.retry_after_s() <= 60
