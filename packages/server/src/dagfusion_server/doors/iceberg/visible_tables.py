"""The namespaces and tables that a caller sees through the Iceberg door. Names are those of SQL."""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import cast

from dagfusion_client.errors import QueryError
from dagfusion_contract.naming import TableName, identifier, table_name
from dagfusion_query.access.authentication import ANONYMOUS
from dagfusion_query.access.grants import ALL, Caller, restricted
from dagfusion_query.catalog.model import PublishedView, Table
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.service import Service

# A caller's own view has no asset states, and the layouts of files are in them.
EVERYTHING = Caller(ANONYMOUS, ALL, "http")


class MissingError(QueryError, http=404):
    """The catalog has no such thing that the caller may see.

    Attributes:
        kind: The protocol's type of the error, such as `NoSuchTableException`.
    """

    def __init__(self, text: str, kind: str = "NotFoundException") -> None:
        super().__init__(text)
        self.kind = kind


class VisibleTables:
    """Looks tables up.

    Args:
        service: Has the catalogs.
        environments: The names of those that the door serves.
    """

    def __init__(self, service: Service, environments: Sequence[str]) -> None:
        self._service, self._environments = service, environments
        self._names_of: dict[str, tuple[object, Collection[TableName]]] = {}

    def namespaces(self, caller: Caller) -> list[str]:
        """Return all namespaces with a table or view that the caller may read."""
        return sorted({name.schema for name, _ in self._all(caller)})

    def tables(self, caller: Caller, namespace: str) -> list[str]:
        """Return the tables of a namespace.

        Raises:
            QueryError: As `check_namespace`.
        """
        self.check_namespace(caller, namespace)
        return sorted(name.table for name, table in self._all(caller) if name.schema == namespace and not table.view)

    def views(self, caller: Caller, namespace: str) -> list[str]:
        """Return the views of a namespace.

        Raises:
            QueryError: As `check_namespace`.
        """
        self.check_namespace(caller, namespace)
        return sorted(name.table for name, table in self._all(caller) if name.schema == namespace and table.view)

    def check_namespace(self, caller: Caller, namespace: str) -> None:
        """Check that there is a namespace.

        Raises:
            MissingError: The namespace has no table or view that the caller may read.
            QueryError: Its environment cannot be read now.
        """
        if not any(name.schema == namespace for name, _ in self._all(caller)):
            self.check_environment(caller, namespace)
            raise MissingError(f"there is no namespace {namespace[:200]}", "NoSuchNamespaceException")

    def find(self, caller: Caller, namespace: str, table: str) -> tuple[EnvironmentState, Table]:
        """Return a table.

        Raises:
            MissingError: There is none that the caller may read.
            QueryError: The table has an error, or its environment cannot be read now.
        """
        return self._find(caller, TableName(namespace, table), "table")

    def of_past(self, caller: Caller, name: TableName) -> Iterator[EnvironmentState]:
        """Yield the environments that have or had a table with this name, if the caller may read it."""
        for state in self._states(caller):
            if not caller.grants.allow(state.name, name):
                continue
            if any(name in names for names in self._names(state, name.schema)):
                yield state

    def check_namespace_of_past(self, caller: Caller, namespace: str) -> None:
        """Check that a namespace exists, or that assets once had tables in it; raises as `check_namespace`."""
        for state in self._states(caller):
            names = chain.from_iterable(self._names(state, namespace))
            if any(name.schema == namespace and caller.grants.allow(state.name, name) for name in names):
                return
        self.check_namespace(caller, namespace)

    def check_environment(self, caller: Caller, namespace: str) -> None:
        """Check that the environment of a namespace can be read.

        Raises:
            QueryError: It cannot be read now.
        """
        for state in self._states(caller):
            if state.problem is not None and namespace.startswith(f"{state.name}_"):
                raise state.problem

    def find_view(self, caller: Caller, namespace: str, view: str) -> tuple[EnvironmentState, Table, PublishedView]:
        """Return a view; raises as `find`."""
        state, found = self._find(caller, TableName(namespace, view), "view")
        return state, found, cast("PublishedView", found.view)

    def _find(self, caller: Caller, name: TableName, kind: str) -> tuple[EnvironmentState, Table]:
        for state in self._states(caller):
            found = state.snapshot.tables.get(name)
            if found is not None and found.view is not None:  # the rights of views are those of their tables
                found = restricted(state.snapshot, caller.grants, state.name).tables.get(name)
            elif not caller.grants.allow(state.name, name):
                continue
            elif (problem := state.snapshot.problems.get(name)) is not None:
                raise problem
            if found is not None and (found.view is not None) == (kind == "view"):
                if found.problem is not None:
                    raise found.problem
                return state, found
        self.check_environment(caller, name.schema)
        raise MissingError(f"there is no {kind} {str(name)[:200]}", f"NoSuch{kind.title()}Exception")

    def _all(self, caller: Caller) -> Iterator[tuple[TableName, Table]]:
        """Yield tables and views without an error: engines that load all that is listed stop at the first error."""
        for state in self._states(caller):
            for name, table in restricted(state.snapshot, caller.grants, state.name).tables.items():
                if table.problem is None:
                    yield name, table

    def _states(self, caller: Caller) -> Iterator[EnvironmentState]:
        for name, state in self._service.environments(EVERYTHING).items():
            if name in self._environments and caller.grants.allow_environment(name):
                yield state

    def _names(self, state: EnvironmentState, namespace: str) -> Iterator[Collection[TableName]]:
        """Yield the names of current tables, and then, if the caller needs more, those of past tables."""
        yield state.snapshot.tables.keys()
        yield self._past_names(state, namespace)

    def _past_names(self, state: EnvironmentState, namespace: str) -> Collection[TableName]:
        """Return the names that the tables of all assets have or had; none if they cannot be in this namespace."""
        environment, assets = state.snapshot.environment, state.snapshot.asset_states
        if not namespace.startswith(f"{identifier(environment)}_"):
            return ()
        known = self._names_of.get(state.name)
        if known is None or known[0] is not assets:  # to name many assets takes long
            known = self._names_of[state.name] = assets, frozenset(table_name(environment, key) for key in assets)
        return known[1]
