"""Ports for servers that start for seconds before they listen, or that stop and start again."""

import itertools
import os
import secrets

from dagfusion_stack.ports import is_free

# Below the ports that the system gives out by itself, and others for each worker of pytest-xdist: nothing takes them.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
_PORTS = itertools.count(20_000 + 1_000 * _WORKER + secrets.randbelow(800))


def kept_ports(count: int) -> list[int]:
    """Choose `count` ports that are free now, and that no other test is given."""
    return list(itertools.islice(filter(is_free, _PORTS), count))
