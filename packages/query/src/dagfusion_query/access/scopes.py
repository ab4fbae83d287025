"""What callers see of all environments together. Pure but for what it remembers."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dagfusion_query.access.grants import Grants, restricted
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.errors import QueryError

REMEMBERED = 8


@dataclass(frozen=True)
class _Scope:
    sources: Mapping[str, Snapshot]
    merged: Snapshot


class Scopes:
    """The snapshots of several environments as one, for the grants used last.

    The same environments give the same object again, so that what is cached for a snapshot stays warm.
    """

    def __init__(self) -> None:
        self._scopes: OrderedDict[Grants, _Scope] = OrderedDict()

    def merged(self, snapshots: Mapping[str, Snapshot], grants: Grants) -> Snapshot:
        """Return what may be read of these environments."""
        scope = self._scopes.get(grants)
        if scope is None or not _same(scope.sources, snapshots):
            scope = self._scopes[grants] = _Scope(dict(snapshots), _merge(snapshots, grants))
        self._scopes.move_to_end(grants)
        while len(self._scopes) > REMEMBERED:
            self._scopes.popitem(last=False)
        return scope.merged


def _same(one: Mapping[str, Snapshot], other: Mapping[str, Snapshot]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def _merge(snapshots: Mapping[str, Snapshot], grants: Grants) -> Snapshot:
    """Put environments together; their tables' names differ in the first word."""
    visible = [restricted(snapshot, grants, name) for name, snapshot in snapshots.items()]
    if len(visible) == 1:
        return visible[0]
    tables: dict[TableName, Table] = {}
    problems: dict[TableName, QueryError] = {}
    for snapshot in visible:
        tables.update(snapshot.tables)
        problems.update(snapshot.problems)
    return Snapshot(0, "", MappingProxyType(tables), MappingProxyType(problems))
