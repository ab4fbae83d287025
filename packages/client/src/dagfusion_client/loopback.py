"""Loopback addresses: what only this machine can reach."""

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Return True for a loopback IP address, and False for a name or None.

    >>> is_loopback("127.0.0.1"), is_loopback("::ffff:127.0.0.1"), is_loopback("localhost")
    (True, True, False)
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
