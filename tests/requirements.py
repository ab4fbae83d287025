"""What a package needs, by the metadata of what is installed."""

from collections.abc import Collection, Mapping
from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(name: str, extras: Collection[str]) -> Mapping[str, str]:
    """Return the version of each package that one needs on this machine with some extras, itself included."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), extra) for extra in ("", *extras)]
    while waiting:
        package, extra = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        installed = distribution(package)
        found[package] = installed.version
        for needed in map(Requirement, installed.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), wanted) for wanted in ("", *needed.extras)]
    return found
