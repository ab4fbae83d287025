"""The stores for one command: those of a running stack, or started for it and stopped after it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dagfusion_stack import dagster
from dagfusion_stack.errors import AlreadyRunningError
from dagfusion_stack.home import Home
from dagfusion_stack.settings import Settings
from dagfusion_stack.supervisor import child_environ, supervise

UP = ("up", "up -d")


@contextmanager
def running_stores(settings: Settings, command: str, say: Callable[[str], None]) -> Iterator[Mapping[str, str]]:
    """Yield the variables of `stack.env` while the stores run.

    Raises:
        StackError: The stack is still starting, or the stores do not start.
    """
    home = Home(settings.home)
    holder = home.holder()
    if holder and holder.command in UP:
        if not holder.ready:
            raise AlreadyRunningError(f"the stack in {home.path} is still starting: try again when it is ready")
        say(f"Using the running stack in {home.path}")
        yield home.read_env()
    else:
        with supervise(settings, command, say) as stack:
            yield stack.start_stores()


@contextmanager
def run_environ() -> Iterator[None]:
    """Set this process's variables as for a server that runs Dagster: event batches, no proxy for the stores."""
    before = dict(os.environ)
    os.environ.update(dagster.RUN_ENVIRON)
    os.environ.update({name: value for name, value in child_environ(before, {}).items() if name.lower() == "no_proxy"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
