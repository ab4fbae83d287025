"""Who the caller is, and whether the service can run statements."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SessionDocument:
    """The caller.

    Attributes:
        anonymous: Whether it came without a token.
        everything: Whether it may read all tables.
        version: The service's.
    """

    user: str
    anonymous: bool
    everything: bool
    version: str


@dataclass(frozen=True)
class StatusDocument:
    """Whether a process lives or is ready.

    Attributes:
        status: `alive` or `ready`.
    """

    status: str
