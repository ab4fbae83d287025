"""Grants: the tables that a caller may read, and the catalog without the others."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from dagfusion_client.errors import QueryError, SettingsError
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Snapshot, Table, readable
from dagfusion_query.grant_names import EVERYTHING, REQUIREMENT, is_grant_name

REMEMBERED = 8


@dataclass(frozen=True)
class Grants:
    """The tables that a caller may read.

    Attributes:
        names: `*` for everything, an environment (`uat`), a schema (`uat_silver_tax_id.*`) or a table
            (`uat_silver_tax_id.raw_organizations`).
    """

    names: frozenset[str]

    @classmethod
    def parse(cls, names: Iterable[str]) -> "Grants":
        """Read grants as a user writes them.

        Raises:
            SettingsError: One is not an environment, a schema with `.*`, a table or `*`, or nothing can have its name.
        """
        read = frozenset(name.strip() for name in names)
        for name in sorted(read):
            if not is_grant_name(name):
                raise SettingsError(f"grants must be {REQUIREMENT}, got {name!r}")
        return cls(read)

    @property
    def everything(self) -> bool:
        """True if all tables may be read."""
        return EVERYTHING in self.names

    def allow(self, environment: str, name: TableName) -> bool:
        """Return True if a table of an environment may be read."""
        return not self.names.isdisjoint((EVERYTHING, environment, f"{name.schema}.*", str(name)))

    def allow_environment(self, environment: str) -> bool:
        """Return True if any table of an environment may be read, so that its state may be shown."""
        prefix = f"{environment}_"
        return any(name in (EVERYTHING, environment) or name.startswith(prefix) for name in self.names)


def meaning(name: str) -> str:
    """Describe what a grant allows to read.

    >>> meaning("uat_silver.*"), meaning("uat_silver.orders"), meaning("uat_silver")
    ('schema uat_silver', 'table uat_silver.orders', 'environment uat_silver')
    """
    schema, _, table = name.strip().partition(".")
    if schema == EVERYTHING:
        return "everything"
    if table == EVERYTHING:
        return f"schema {schema}"
    return f"table {schema}.{table}" if table else f"environment {schema}"


ALL = Grants(frozenset({EVERYTHING}))


def restricted(snapshot: Snapshot, grants: Grants, environment: str) -> Snapshot:
    """Return one environment's snapshot as a caller sees it: without the tables that the grants leave out."""
    if grants.everything:
        return snapshot
    allow = partial(grants.allow, environment)
    problems = {name: problem for name, problem in snapshot.problems.items() if allow(name)}
    return replace(
        snapshot,
        tables=MappingProxyType(readable(snapshot.tables, allow)),
        problems=MappingProxyType(problems),
        asset_states=MappingProxyType({}),
    )


@dataclass(frozen=True)
class Caller:
    """The identity and the rights of a client.

    Attributes:
        user: The token's name, or `anonymous`.
        grants: What it may read.
        door: `http`, `flight` or `console`.
        token_id: The token's; empty without one.
    """

    user: str
    grants: Grants
    door: str
    token_id: str = ""

    @property
    def owner(self) -> str:
        """The owner of its queries, sessions and statements. An id is unique, while a name can be used again."""
        return self.token_id or self.user


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
            snapshots: The snapshots of the environments that can be read.
            unavailable: Why the others cannot.
            grants: The caller's.
        """
        problems = {name: str(problem) for name, problem in unavailable.items()}
        scope = self._scopes.get(grants)
        if scope is None or scope.unavailable != problems or not _same(scope.sources, snapshots):
            merged = self._shared(_merge_environments(snapshots, unavailable, grants))
            scope = self._scopes[grants] = _Scope(dict(snapshots), problems, merged)
        self._scopes.move_to_end(grants)
        while len(self._scopes) > REMEMBERED:
            self._scopes.popitem(last=False)
        return scope.merged

    def _shared(self, merged: Snapshot) -> Snapshot:
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


def _merge_environments(
    snapshots: Mapping[str, Snapshot], unavailable: Mapping[str, QueryError], grants: Grants
) -> Snapshot:
    """Put environments together; their tables' names differ in the first word."""
    tables: dict[TableName, Table] = {}
    problems: dict[TableName, QueryError] = {}
    for name, snapshot in snapshots.items():
        seen = restricted(snapshot, grants, name)
        tables.update(seen.tables)
        problems.update(seen.problems)
    down = {name: problem for name, problem in unavailable.items() if grants.allow_environment(name)}
    return Snapshot(0, "", MappingProxyType(tables), MappingProxyType(problems), unavailable=MappingProxyType(down))
