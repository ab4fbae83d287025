"""A supervisor that outlives the command that started it: `python -m dagfusion_stack.background`.

It tells its progress to that command through a pipe, one JSON document a line (`say`, `error` or `ready`), and closes
the pipe when the stack is ready.
"""

import json
import os
import signal
import subprocess
import sys

from dagfusion_stack import process
from dagfusion_stack.errors import ServerError, StackError
from dagfusion_stack.home import SUPERVISOR_LOG, Home
from dagfusion_stack.settings import Settings
from dagfusion_stack.supervisor import SUPERVISOR_STOP_TIMEOUT_S, Say, supervise

NAME = "supervisor"


_DISTRIBUTED = "--distributed"


def start(settings: Settings, say: Say, *, distributed: bool = False) -> None:
    """Start the stack under a supervisor in the background, and return when it is ready.

    Args:
        settings: The settings of the stack.
        say: Takes one line of progress.
        distributed: Whether the stack has a Sail server.

    Raises:
        StackError: It did not start; the message is the supervisor's own.
    """
    home = Home(settings.home)
    home.prepare()
    log = home.logs / SUPERVISOR_LOG
    with log.open("ab") as errors:
        child = subprocess.Popen(  # noqa: S603  # this module
            [sys.executable, "-m", __name__, *([_DISTRIBUTED] if distributed else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **settings.environ(), process.MARK: str(home.path), process.SERVICE: NAME},
            start_new_session=True,
            text=True,
        )
    try:
        _relay(child, say, f"the {NAME} ended without a word; its log is {log}")
    except KeyboardInterrupt:
        child.terminate()
        child.wait(SUPERVISOR_STOP_TIMEOUT_S)
        raise


def _relay(child: subprocess.Popen[str], say: Say, otherwise: str) -> None:
    """Pass on what the supervisor says until it is ready."""
    error = otherwise
    for line in child.stdout or ():
        message = json.loads(line)
        if "ready" in message:
            return
        if "say" in message:
            say(message["say"])
        error = message.get("error", error)
    child.wait()
    raise ServerError(error)


def main() -> int:
    """Run the stack until a signal or the end of a server.

    Returns:
        The exit code: 1 when something went wrong.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the command that started this one, not for the stack
        signal.signal(number, signal.SIG_IGN)
    try:
        with supervise(Settings.read(os.environ), "up -d", lambda line: _send(say=line)) as supervisor:
            supervisor.start_all(distributed=_DISTRIBUTED in sys.argv)
            _send(ready=True)
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            supervisor.watch()
    except KeyboardInterrupt:
        return 0
    except (StackError, OSError) as error:
        _send(error=str(error) if isinstance(error, StackError) else _unusable(error))
        return 1
    return 0


def _unusable(error: OSError) -> str:
    where = error.filename or "the state folder"
    return f"{where}: {error.strerror or error}; make room or give access, or set DAGFUSION_HOME to another folder"


def _send(**message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201  # the pipe, and the log afterwards


if __name__ == "__main__":
    sys.exit(main())
