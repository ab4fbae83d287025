"""The states of a worker as the service sees it: how it is leased, released and killed, without a process."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_server.service.worker_handle import Lifecycle, Transition, WorkerState
from dagfusion_server.service.worker_process import exit_text

DEAD = (WorkerState.lost, WorkerState.gone)
ANY = st.lists(st.sampled_from(Transition), max_size=20)


def after(*transitions: Transition) -> Lifecycle:
    life = Lifecycle()
    for transition in transitions:
        life.move(transition)
    return life


def attempted(transitions: Sequence[Transition]) -> Lifecycle:
    """Try all of these transitions; those that are not allowed change nothing."""
    life = Lifecycle()
    for transition in transitions:
        before = life.state
        try:
            life.move(transition)
        except RuntimeError:
            assert life.state is before
    return life


READY, LEASE, SEND, SENT, STOP, RELEASE, DIE = (
    Transition.ready,
    Transition.lease,
    Transition.send,
    Transition.sent,
    Transition.stop,
    Transition.release,
    Transition.die,
)
PATHS = {
    WorkerState.starting: (),
    WorkerState.idle: (READY,),
    WorkerState.leased: (READY, LEASE),
    WorkerState.sending: (READY, LEASE, SEND),
    WorkerState.running: (READY, LEASE, SEND, SENT),
    WorkerState.stopping: (READY, LEASE, SEND, SENT, STOP),
    WorkerState.lost: (READY, LEASE, DIE),
    WorkerState.gone: (READY, LEASE, DIE, RELEASE),
}


@pytest.mark.parametrize("state", WorkerState)
def test_every_state_is_reached(state: WorkerState) -> None:
    assert after(*PATHS[state]).state is state


@pytest.mark.parametrize("state", WorkerState)
def test_only_an_idle_worker_is_leased(state: WorkerState) -> None:
    life = after(*PATHS[state])
    if state is WorkerState.idle:
        assert life.move(LEASE) is WorkerState.leased
    else:
        with pytest.raises(RuntimeError, match=f"transition lease of a worker that is {state.name}"):
            life.move(LEASE)


@pytest.mark.parametrize(
    ("state", "following"),
    [
        (WorkerState.starting, None),
        (WorkerState.idle, None),  # released twice
        (WorkerState.leased, WorkerState.idle),
        (WorkerState.sending, None),  # half a statement may be in its socket
        (WorkerState.running, WorkerState.idle),
        (WorkerState.stopping, WorkerState.idle),
        (WorkerState.lost, WorkerState.gone),
        (WorkerState.gone, WorkerState.gone),
    ],
)
def test_a_release_makes_a_worker_idle_unless_it_is_dead_or_half_told(
    state: WorkerState, following: WorkerState | None
) -> None:
    life = after(*PATHS[state])
    if following is None:
        with pytest.raises(RuntimeError):
            life.move(RELEASE)
    else:
        assert life.move(RELEASE) is following


@pytest.mark.parametrize("state", WorkerState)
def test_a_worker_dies_in_any_state_and_its_query_reads_on(state: WorkerState) -> None:
    life = after(*PATHS[state])
    life.kill("by the test")
    is_leased = state not in (WorkerState.starting, WorkerState.idle, WorkerState.gone)
    assert life.state is (WorkerState.lost if is_leased else WorkerState.gone)


@given(before=ANY, later=ANY)
def test_a_dead_worker_stays_dead(before: list[Transition], later: list[Transition]) -> None:
    life = attempted(before)
    life.exit(1)
    was = life.state
    for transition in later:
        with contextlib.suppress(RuntimeError):
            life.move(transition)
    assert life.state in DEAD
    assert life.state is was or (was is WorkerState.lost and RELEASE in later)


@pytest.mark.parametrize("state", WorkerState)
def test_a_worker_is_idle_or_leased_or_neither(state: WorkerState) -> None:
    life = after(*PATHS[state])
    in_use = (WorkerState.leased, WorkerState.sending, WorkerState.running, WorkerState.stopping, WorkerState.lost)
    assert (life.is_idle, life.is_leased) == (state is WorkerState.idle, state in in_use)
    assert not life.is_over
    life.exit(1)
    assert life.is_over is (state not in in_use), "a query still reads what the process has sent"


@given(transitions=ANY)
def test_a_worker_comes_up_once(transitions: list[Transition]) -> None:
    life = attempted(transitions)
    assert life.was_ready is (READY in transitions)
    if life.state is not WorkerState.gone:
        assert life.was_ready is (life.state is not WorkerState.starting)


@pytest.mark.parametrize(
    ("code", "text"),
    [(3, "exit code 3"), (-9, "SIGKILL: Killed"), (-11, "SIGSEGV: Segmentation fault"), (-63, "signal 63")],
)
def test_how_a_worker_ended_is_told(code: int, text: str) -> None:
    assert exit_text(code) == text


def test_the_first_reason_to_kill_counts() -> None:
    life = after(READY)
    for reason in ("", "memory", "cancelled"):
        life.kill(reason)
    life.exit(-9)
    assert (life.kill_reason, life.exit_code, life.state) == ("memory", -9, WorkerState.gone)
