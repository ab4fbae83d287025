"""The endpoints of the Iceberg REST protocol below `/iceberg`. Requests that would write are refused."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import orjson
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from dagfusion_client.errors import (
    BadRequestError,
    ForbiddenError,
    QueryError,
    ServiceUnavailableError,
    TooBusyError,
    UnauthenticatedError,
)
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.publisher import Published, Publisher, open_publishers
from dagfusion_interop.spark.spark_sql import PIN
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.model import Table, layouts_of
from dagfusion_query.config import Config
from dagfusion_query.redact import for_clients
from dagfusion_server.doors.http.middleware import AuthenticationMiddleware, caller_of
from dagfusion_server.doors.http.requests_and_responses import read_body
from dagfusion_server.doors.iceberg.cross_origin import CrossOriginMiddleware
from dagfusion_server.doors.iceberg.older_snapshots import OlderSnapshots
from dagfusion_server.doors.iceberg.plan_routes import BODY_BYTES, PlannedTable, more_tasks, plan
from dagfusion_server.doors.iceberg.storage_credentials import NO_ACCESS, StorageAccess, StorageCredentials
from dagfusion_server.doors.iceberg.view_dialects import ViewDialects
from dagfusion_server.doors.iceberg.visible_tables import MissingError, VisibleTables
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.service import Service

PATH = "/iceberg"
JSON = "application/json"
_NAMESPACE = "/v1/{prefix}/namespaces/{namespace}"
ENDPOINTS = (
    "GET /v1/{prefix}/namespaces",
    f"GET {_NAMESPACE}",
    f"HEAD {_NAMESPACE}",
    f"GET {_NAMESPACE}/tables",
    f"GET {_NAMESPACE}/tables/{{table}}",
    f"HEAD {_NAMESPACE}/tables/{{table}}",
    f"GET {_NAMESPACE}/tables/{{table}}/credentials",
    f"POST {_NAMESPACE}/tables/{{table}}/metrics",
    f"POST {_NAMESPACE}/tables/{{table}}/plan",
    f"POST {_NAMESPACE}/tables/{{table}}/tasks",
    f"GET {_NAMESPACE}/views",
    f"GET {_NAMESPACE}/views/{{view}}",
    f"HEAD {_NAMESPACE}/views/{{view}}",
)
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
_PUBLISHING = 2  # tables at a time: each takes a core
_FORM_BYTES = 1 << 16
_VENDED = "vended-credentials"
_TYPES = {
    400: "BadRequestException",
    401: "NotAuthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    500: "InternalServerError",
    503: "ServiceUnavailableException",
}
_DECLARED = (400, 401, 403, 404)  # the protocol has no other status for a client's error, such as 413, 415 or 422
Endpoint = Callable[[Request], Awaitable[Response]]


class IcebergRoutes:
    """The endpoints.

    Args:
        service: Has the catalogs.
        config: Which environments have a folder for metadata.
        tokens: The tokens of the service.
        publishers: By environment; None to make them.
    """

    def __init__(
        self,
        service: Service,
        config: Config,
        tokens: Tokens,
        publishers: Mapping[str, Publisher] | None = None,
    ) -> None:
        self._tokens, self._settings = tokens, config.service
        self._configured = {e.name: e for e in config.environments if e.own.iceberg_metadata}
        self._publishers = open_publishers(config) if publishers is None else publishers
        self._credentials = {
            name: StorageCredentials(e, config.service.sts_endpoint_url) for name, e in self._configured.items()
        }
        self._visible = VisibleTables(service, [*self._configured])
        self._dialects = ViewDialects()
        self._older = OlderSnapshots(service, config.service.iceberg_snapshot_hours)
        self._publishing = asyncio.Semaphore(_PUBLISHING)

    def mounts(self) -> list[Mount]:
        """Return the routes; none if no environment has a folder for metadata."""
        if not self._configured:
            return []
        namespace, table = "/v1/namespaces/{namespace}", "/v1/namespaces/{namespace}/tables/{table}"
        reading: Mapping[str, Endpoint] = {
            "/v1/config": self.configuration,
            "/v1/namespaces": self.namespaces,
            namespace: self.namespace,
            f"{namespace}/tables": self.tables,
            table: self.table,
            f"{table}/credentials": self.credentials,
            f"{namespace}/views": self.views,
            f"{namespace}/views/{{view}}": self.view,
        }
        routes = [Route(path, _answered(endpoint), methods=["GET"]) for path, endpoint in reading.items()]
        routes += [
            Route(f"{table}/metrics", _answered(self.metrics), methods=["POST"]),
            Route(f"{table}/plan", _answered(self.plan), methods=["POST"]),
            Route(f"{table}/tasks", _answered(self.tasks), methods=["POST"]),
            Route("/v1/oauth/tokens", _answered(self.token, refused_token), methods=["POST"]),
            Route("/{path:path}", _answered(self.other), methods=_METHODS),
        ]
        guard = Middleware(
            AuthenticationMiddleware,
            tokens=self._tokens,
            settings=self._settings,
            guarded=(f"{PATH}/v1/",),
            unguarded=(f"{PATH}/v1/oauth/tokens",),
            origins=self._settings.iceberg_origins,
            refuse=refusal,
        )
        pages = Middleware(CrossOriginMiddleware, origins=self._settings.iceberg_origins)
        return [Mount(PATH, routes=routes, middleware=[pages, guard])]

    async def configuration(self, _: Request) -> Response:
        """Return the endpoints of the catalog. Clients call no others."""
        return _document({"defaults": {}, "overrides": {}, "endpoints": ENDPOINTS})

    async def namespaces(self, request: Request) -> Response:
        """List the namespaces; none is in another."""
        caller = caller_of(request)
        parent = request.query_params.get("parent")
        if parent:
            self._visible.check_namespace(caller, parent)
            return _document({"namespaces": []})
        return _document({"namespaces": [[name] for name in self._visible.namespaces(caller)]})

    async def namespace(self, request: Request) -> Response:
        """Return a namespace."""
        name = request.path_params["namespace"]
        schema, pin, _ = name.partition(PIN)
        check = self._visible.check_namespace_of_past if pin else self._visible.check_namespace
        check(caller_of(request), schema)
        return _found(request, {"namespace": [name], "properties": {}})

    async def tables(self, request: Request) -> Response:
        """List the tables of a namespace."""
        name = request.path_params["namespace"]
        tables = self._visible.tables(caller_of(request), name)
        return _document({"identifiers": [{"namespace": [name], "name": table} for table in tables]})

    async def table(self, request: Request) -> Response:
        """Return a table as the event log has it, with older snapshots if `snapshots` is not `refs`.

        A namespace `schema@version` has a pinned version of the table, which was published before. The service's own
        statements on Spark read these.
        """
        if PIN in request.path_params["namespace"]:
            return await self._pinned(request)
        state, table = self._visible.find(caller_of(request), *_names(request))
        snapshots = request.query_params.get("snapshots", "all")
        if snapshots not in ("all", "refs"):
            raise BadRequestError(f"snapshots must be all or refs, got {snapshots!r:.40}")
        published = await self._publish(state, table)
        if request.method == "HEAD":
            return Response(status_code=204)
        if snapshots == "all":
            published = await self._older.with_them(published, self._publishers[state.name])
        storage = await self._storage(request, state, table)
        tag = f'"{hashlib.sha256(orjson.dumps([published.uri, storage.config])).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        loaded = {
            "metadata-location": published.uri,
            "metadata": orjson.Fragment(published.metadata),
            "config": storage.config,
            **({"storage-credentials": storage.documents} if storage.places else {}),
        }
        return _document(loaded, {"ETag": tag})

    async def _pinned(self, request: Request) -> Response:
        """Return a pinned version of a table that the caller may read, even if the catalog no longer has the table."""
        schema, _, version = request.path_params["namespace"].partition(PIN)
        name = TableName(schema, request.path_params["table"])
        for state in [*self._visible.of_past(caller_of(request), name)]:
            found = await asyncio.to_thread(_read_table, self._publishers[state.name], name, version)
            if found is not None:
                break
        else:
            self._visible.check_environment(caller_of(request), schema)
            raise MissingError(
                f"there is no version {version[:100]} of table {str(name)[:200]}", "NoSuchTableException"
            )
        table = state.snapshot.tables.get(name)
        storage = NO_ACCESS if table is None else await self._storage(request, state, table)
        loaded = {"metadata-location": found[0], "metadata": orjson.Fragment(found[1]), "config": storage.config}
        places = {"storage-credentials": storage.documents} if storage.places else {}
        return _found(request, loaded | places)

    async def _storage(self, request: Request, state: EnvironmentState, table: Table) -> StorageAccess:
        """Return the access to a table's objects for a client that requests it."""
        if _VENDED not in request.headers.get("x-iceberg-access-delegation", ""):
            return NO_ACCESS
        return await self._access(request, state, table)

    async def _access(self, request: Request, state: EnvironmentState, table: Table) -> StorageAccess:
        """Return the access to a table's objects; on a thread, because it may call AWS."""
        credentials, metadata = self._credentials[state.name], self._publishers[state.name].folder(table.name)
        return await asyncio.to_thread(credentials.access, state, table, metadata, caller_of(request))

    async def credentials(self, request: Request) -> Response:
        """Return the access to a table's objects, if the operator lets clients have any."""
        state, table = self._visible.find(caller_of(request), *_names(request))
        return _document({"storage-credentials": (await self._access(request, state, table)).documents})

    async def metrics(self, request: Request) -> Response:
        """Accept a client's report of a scan, and discard it."""
        self._visible.find(caller_of(request), *_names(request))
        return Response(status_code=204)

    async def plan(self, request: Request) -> Response:
        """Return the files that a scan needs, and the keys for them, if the operator lets clients have any."""
        state, table = self._visible.find(caller_of(request), *_names(request))
        planned = await plan(request, await read_body(request, BODY_BYTES), self._planned(state, table))
        storage = await self._storage(request, state, table)
        return _document(planned | ({"storage-credentials": storage.documents} if storage.places else {}))

    async def tasks(self, request: Request) -> Response:
        """Return the next files of a scan that was planned."""
        state, table = self._visible.find(caller_of(request), *_names(request))
        return _document(await more_tasks(request, await read_body(request, BODY_BYTES), self._planned(state, table)))

    async def views(self, request: Request) -> Response:
        """List the views of a namespace."""
        name = request.path_params["namespace"]
        views = self._visible.views(caller_of(request), name)
        return _document({"identifiers": [{"namespace": [name], "name": view} for view in views]})

    async def view(self, request: Request) -> Response:
        """Return a view: its statement in the SQL of DataFusion and of Spark, and its columns."""
        names = request.path_params["namespace"], request.path_params["view"]
        state, table, view = self._visible.find_view(caller_of(request), *names)
        if request.method == "HEAD":
            return Response(status_code=204)
        dialects = await self._dialects.of(view, state.snapshot)
        uri, metadata = await asyncio.to_thread(self._publishers[state.name].publish_view, table, view, dialects)
        return _document({"metadata-location": uri, "metadata": orjson.Fragment(metadata), "config": {}})

    async def token(self, request: Request) -> Response:
        """Check an access token that comes as a client's secret, and return it as the bearer token to use."""
        form = dict(parse_qsl((await read_body(request, _FORM_BYTES)).decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return _document({"error": "unsupported_grant_type"}, status=BadRequestError.http_status)
        secret = form.get("client_secret") or _basic_secret(request.headers.get("authorization", ""))
        self._tokens.authenticate(secret)
        token_type = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # a name
        granted = {"access_token": secret, "token_type": "bearer", "issued_token_type": token_type}
        return _document(granted)

    async def other(self, request: Request) -> Response:
        """Answer any other request: a change is refused, and any other path is not found."""
        if request.method in ("GET", "HEAD"):
            raise MissingError(f"there is no {request.url.path[:200]}")
        raise ForbiddenError("this catalog is read-only: Dagster writes the tables")

    def _planned(self, state: EnvironmentState, table: Table) -> PlannedTable:
        publisher = self._publishers[state.name]
        older = partial(self._older.find, publisher)
        return PlannedTable(table, publisher, partial(self._publish, state, table), older)

    async def _publish(self, state: EnvironmentState, table: Table) -> Published:
        layouts = layouts_of(table, state.snapshot.asset_states[table.asset_key])
        self._publishers[state.name].forget_dropped(state.snapshot)
        self._older.forget_dropped(state.name, state.snapshot)
        async with self._publishing:
            return await asyncio.to_thread(self._publishers[state.name].publish, table, layouts)


def _answered(endpoint: Endpoint, refuse: Callable[[BaseException], Response] | None = None) -> Endpoint:
    """Return an endpoint whose errors are in the protocol's form."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001  # whatever it is, a client must not see it
            return (refuse or refusal)(error)

    return answer


def refusal(error: BaseException) -> Response:
    """Return the response for an error, or for the internal error that hides it from clients."""
    shown, status = _shown(error)
    kind = shown.kind if isinstance(shown, MissingError) else _TYPES.get(status, type(shown).__name__)
    return failed(status, kind, str(shown))


def refused_token(error: BaseException) -> Response:
    """Return the response for an error of the endpoint of tokens, whose form is that of OAuth2."""
    shown, status = _shown(error)
    code = "invalid_client" if isinstance(shown, UnauthenticatedError) else "invalid_request"
    return _document({"error": code, "error_description": str(shown)}, status=status)


def _shown(error: BaseException) -> tuple[QueryError, int]:
    """Return what clients may read of an error, and its status in this protocol."""
    shown = for_clients(error)
    if shown.http_status == TooBusyError.http_status:
        return shown, ServiceUnavailableError.http_status  # the protocol's status to ask again after
    is_declared = shown.http_status in _DECLARED or shown.http_status >= 500  # noqa: PLR2004
    return shown, shown.http_status if is_declared else 400


def failed(status: int, kind: str, message: str) -> Response:
    """Return the response of an error model."""
    text = message.encode("utf-8", "replace").decode()
    headers = {"WWW-Authenticate": "Bearer"} if status == UnauthenticatedError.http_status else {}
    content = orjson.dumps({"error": {"message": text, "type": kind, "code": status}})
    return Response(content, status, headers, JSON)


def _read_table(publisher: Publisher, name: TableName, version: str) -> tuple[str, bytes] | None:
    """Return as `read`, but None for a view, because the rights to a view are those to its tables."""
    found = publisher.read(name, version)
    return found if found is not None and "table-uuid" in orjson.loads(found[1]) else None


def _basic_secret(authorization: str) -> str:
    """Return the secret of basic authentication, in which DuckDB sends it; empty if there is none."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        pair = base64.b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        return ""
    return unquote_plus(pair.partition(":")[2])


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["namespace"], request.path_params["table"]


def _found(request: Request, content: Mapping[str, Any]) -> Response:
    return Response(status_code=204) if request.method == "HEAD" else _document(content)


def _document(content: Mapping[str, Any], headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, headers, JSON)
