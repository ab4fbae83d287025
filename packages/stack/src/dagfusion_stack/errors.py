"""The errors of the stack. docs/reference/errors.md has a table of them, which scripts/reference.py writes.

Each message is one line that names the thing, what was found, and the next step.
"""


class StackError(Exception):
    """Base of every error of the stack; the command line prints its message and exits with 1."""


class HomeError(StackError):
    """The state folder cannot be created or written, or has an unknown format."""


class SettingError(StackError):
    """A setting has a value that cannot be used."""


class AlreadyRunningError(StackError):
    """Another supervisor holds the state folder."""


class PortBusyError(StackError):
    """Something else listens on a port that was asked for."""


class MissingBinaryError(StackError):
    """A program that a package should have installed is not there."""


class MissingExtraError(StackError):
    """A library is needed that only an extra of this package installs."""


class ServerError(StackError):
    """A server of the stack did not start, or ended by itself."""


ServiceError = ServerError  # its older name


class DemoError(StackError):
    """The demo could not finish, or an answer differs from the independent computation."""
