"""What callers see of all environments together. Pure but for what it remembers."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import Grants, restricted
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.errors import QueryError

REMEMBERED = 8


@dataclass(frozen=True)
class _Scope:
    sources: Mapping[str, Snapshot]
    unavailable: Mapping[str, str]
    merged: Snapshot


class Scopes:
    """The snapshots of several environments as one, for the grants used last.

    The same environments give the same object again, so that what is cached for a snapshot stays warm.
    """

    def __init__(self) -> None:
        self._scopes: OrderedDict[Grants, _Scope] = OrderedDict()

    def merged(
        self, snapshots: Mapping[str, Snapshot], unavailable: Mapping[str, QueryError], grants: Grants
    ) -> Snapshot:
        """Return what may be read.

        Args:
            snapshots: Of the environments that can be read.
            unavailable: Why the others cannot.
            grants: The caller's.
        """
        problems = {name: str(problem) for name, problem in unavailable.items()}
        scope = self._scopes.get(grants)
        if scope is None or scope.unavailable != problems or not _same(scope.sources, snapshots):
            merged = self._known(_merge(snapshots, unavailable, grants))
            scope = self._scopes[grants] = _Scope(dict(snapshots), problems, merged)
        self._scopes.move_to_end(grants)
        while len(self._scopes) > REMEMBERED:
            self._scopes.popitem(last=False)
        return scope.merged

    def _known(self, merged: Snapshot) -> Snapshot:
        """Return the same of other grants if there is one: `*` and the name of the only environment see the same."""
        others = (scope.merged for scope in self._scopes.values())
        return next((other for other in others if _sees_the_same(other, merged)), merged)


def _same(one: Mapping[Any, object], other: Mapping[Any, object]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def _sees_the_same(one: Snapshot, other: Snapshot) -> bool:
    return (
        _same(one.tables, other.tables)
        and _same(one.problems, other.problems)
        and {k: str(v) for k, v in one.unavailable.items()} == {k: str(v) for k, v in other.unavailable.items()}
    )


def _merge(snapshots: Mapping[str, Snapshot], unavailable: Mapping[str, QueryError], grants: Grants) -> Snapshot:
    """Put environments together; their tables' names differ in the first word."""
    tables: dict[TableName, Table] = {}
    problems: dict[TableName, QueryError] = {}
    for name, snapshot in snapshots.items():
        seen = restricted(snapshot, grants, name)
        tables.update(seen.tables)
        problems.update(seen.problems)
    down = {name: problem for name, problem in unavailable.items() if grants.allow_environment(name)}
    return Snapshot(0, "", MappingProxyType(tables), MappingProxyType(problems), unavailable=MappingProxyType(down))
