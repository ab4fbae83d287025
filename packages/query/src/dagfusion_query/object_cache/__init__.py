"""Caches on local disk, which all processes of a user share: objects by their version, results by their plan."""

CACHE = "cache"  # the path of a query whose result was kept
