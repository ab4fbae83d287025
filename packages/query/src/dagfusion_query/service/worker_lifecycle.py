"""The states of a worker, and the transitions between them. Pure."""

import signal
from collections.abc import Mapping
from enum import Enum, auto


class WorkerState(Enum):
    """The state of a worker, as the service sees it. `Phase` is what the process itself reports."""

    starting = auto()  # the process is not ready yet
    idle = auto()  # in the pool; no other state can be leased
    leased = auto()  # a lease has it, and has sent nothing
    sending = auto()  # its socket may hold half a statement: it runs the statement, or it is killed
    running = auto()  # it has a statement
    stopping = auto()  # it was told to cancel the statement, and is killed after the grace
    lost = auto()  # killed or exited; its lease still reads what it has sent
    gone = auto()  # killed or exited, and without a lease


class Transition(Enum):
    """The transitions between the states of a worker."""

    ready = auto()  # by the pool
    lease = auto()  # by the pool
    release = auto()  # by the pool, when a lease is over
    send = auto()  # by the lease
    sent = auto()  # by the lease
    stop = auto()  # by the lease
    die = auto()  # by the pool or the lease, which kill the process, and by its exit


_IN_USE = (WorkerState.leased, WorkerState.sending, WorkerState.running, WorkerState.stopping)
_DEAD = (WorkerState.lost, WorkerState.gone)
_NEXT: Mapping[Transition, Mapping[WorkerState, WorkerState]] = {
    Transition.ready: {WorkerState.starting: WorkerState.idle},
    Transition.lease: {WorkerState.idle: WorkerState.leased},
    Transition.send: {WorkerState.leased: WorkerState.sending},
    Transition.sent: {WorkerState.sending: WorkerState.running},
    Transition.stop: {WorkerState.running: WorkerState.stopping},
    Transition.release: {
        WorkerState.leased: WorkerState.idle,
        WorkerState.running: WorkerState.idle,
        WorkerState.stopping: WorkerState.idle,
        WorkerState.lost: WorkerState.gone,
    },
    Transition.die: {
        WorkerState.starting: WorkerState.gone,
        WorkerState.idle: WorkerState.gone,
        **dict.fromkeys(_IN_USE, WorkerState.lost),
    },
}


class Lifecycle:
    """The state of one worker, which only `move` changes. Pure.

    - The pool leases a worker only when it is idle.
    - A worker that is released is idle again, unless it is dead. Half a statement makes it useless: it is killed first.
    - The pool and the lease may kill it in any state. A dead worker stays dead. Its lease learns of that when it reads,
      so every transition but `lease` is allowed until then, and only `release` has an effect.

    Attributes:
        state: The state now.
        was_ready: Whether the process has come up.
        kill_reason: Why the service killed it first, "" if it did not or gave no reason.
        exit_code: That of the process; None until it has exited.
    """

    def __init__(self) -> None:
        self.state = WorkerState.starting
        self.was_ready = False
        self.kill_reason = ""
        self.exit_code: int | None = None

    @property
    def is_idle(self) -> bool:
        """True if it can be leased."""
        return self.state is WorkerState.idle

    @property
    def is_leased(self) -> bool:
        """True if a lease has it, dead or alive."""
        return self.state in _IN_USE or self.state is WorkerState.lost

    @property
    def is_over(self) -> bool:
        """True if the process has exited and no lease reads its messages."""
        return self.state is WorkerState.gone and self.exit_code is not None

    @property
    def exit_text(self) -> str:
        """How the process ended: an exit code, or a signal."""
        if self.exit_code is None or self.exit_code >= 0:
            return f"exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}"
        return f"{name}: {signal.strsignal(-self.exit_code)}"

    def move(self, transition: Transition) -> WorkerState:
        """Change the state, and return it.

        Raises:
            RuntimeError: The transition is not allowed in this state, which is a fault of this program.
        """
        following = _NEXT[transition].get(self.state)
        if following is None and (self.state not in _DEAD or transition is Transition.lease):
            raise RuntimeError(f"transition {transition.name} of a worker that is {self.state.name}")
        self.state = following or self.state
        self.was_ready = self.was_ready or transition is Transition.ready
        return self.state

    def kill(self, reason: str) -> None:
        """Note that the service kills it; the first reason counts."""
        self.kill_reason = self.kill_reason or reason
        self.move(Transition.die)

    def exit(self, code: int) -> None:
        """Note that the process has exited."""
        self.exit_code = code
        self.move(Transition.die)
