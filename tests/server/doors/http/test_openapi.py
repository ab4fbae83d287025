"""The API's description, compared with the routes and with what they answer."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, cast

import httpx
import pytest
from starlette.routing import Route

from dagfusion_client import errors
from dagfusion_client.errors import (
    BrokenStreamError,
    ConnectionClosedError,
    InternalError,
    QueryError,
    ServiceUnavailableError,
    ServiceUnreachableError,
    UnknownQueryError,
    UnsupportedError,
    tree,
)
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import api_routes
from dagfusion_server.doors.http.middleware import AuthenticationMiddleware
from dagfusion_server.doors.http.requests_and_responses import status_of
from dagfusion_server.service.service import Service
from tests.server.fake_service import FakeService


@pytest.fixture
def description(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_describes_exactly_the_routes(description: Any, service: FakeService, settings: ServiceSettings) -> None:
    routes = [route for route in api_routes(cast("Service", service), settings) if isinstance(route, Route)]
    there = {(route.path, method.lower()) for route in routes for method in route.methods or () if method != "HEAD"}
    methods = {"get", "post", "delete", "put", "patch"}
    described = {(path, name) for path, item in description["paths"].items() for name in item if name in methods}

    assert described == there


# Errors of clients, of paths with a query's id, and of Flight SQL.
OF_NO_STATEMENT = (
    BrokenStreamError,
    ConnectionClosedError,
    ServiceUnreachableError,
    UnknownQueryError,
    UnsupportedError,
)
OWN = "dagfusion_server.doors.http"


def raised(function: Callable[..., Any], owner: type) -> Iterator[type[QueryError]]:
    """Yield the errors that a function raises, and those that the docstrings of the functions that it calls list."""
    module = vars(sys.modules[function.__module__])
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from of_name(ast.unparse(node.exc.func))
        if not isinstance(node, ast.Call):
            continue
        parts = ast.unparse(node.func).split(".")
        match parts:
            case ["self", "_service", name]:
                called = getattr(Service, name)
            case ["self", name]:
                called = getattr(owner, name)
            case [name]:
                called = module.get(name)
            case _:
                continue
        if "Raises:" in (inspect.getdoc(called) or ""):
            yield from listed(called)
        elif inspect.isfunction(called) and called.__module__.startswith(OWN) and called is not function:
            yield from raised(called, owner)


def listed(called: object) -> Iterator[type[QueryError]]:
    section = (inspect.getdoc(called) or "").partition("Raises:")[2]
    for name in re.findall(r"^ +(\w+Error): ", section, re.MULTILINE):
        yield from of_name(name)


def of_name(name: str) -> Iterator[type[QueryError]]:
    """Yield the class of a name, with its subclasses if it is a base of others only."""
    kind = getattr(errors, name)
    if kind is QueryError:
        yield from (one for one in tree(kind) if one.__module__ == errors.__name__ and one not in OF_NO_STATEMENT)
    else:
        yield from tree(kind) if (kind.__doc__ or "").startswith("The base of") else [kind]


def test_the_statuses_are_those_of_the_errors_that_a_route_raises(
    description: Any, service: FakeService, settings: ServiceSettings
) -> None:
    middleware: set[type[QueryError]] = {
        InternalError,
        *raised(AuthenticationMiddleware._caller, AuthenticationMiddleware),
    }

    for route in api_routes(cast("Service", service), settings):
        assert isinstance(route, Route)
        [method] = {*(route.methods or ())} - {"HEAD"}
        assert isinstance(route.endpoint, MethodType)
        kinds = middleware | {*raised(route.endpoint, type(route.endpoint.__self__))}
        if route.path in ("/healthz", "/readyz"):
            kinds = {ServiceUnavailableError} if route.path == "/readyz" else set()
        responses = description["paths"][route.path][method.lower()]["responses"]

        documented = {int(status) for status in responses if status >= "400"}

        assert documented == {status_of(kind, method) for kind in kinds}, route.path


def test_a_statement_can_fail_as_an_archived_or_corrupt_object_does(description: Any) -> None:
    for path in ("/v1/sql", "/v1/explain"):
        assert description["paths"][path]["post"]["responses"].keys() >= {"409", "502"}


def test_its_references_lead_somewhere(description: Any) -> None:
    found = set(references(description))

    assert len(found) > 10
    for reference in found:
        place: Any = description
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_every_operation_has_a_name_of_its_own(description: Any) -> None:
    operations = [
        operation for item in description["paths"].values() for name, operation in item.items() if name != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]

    assert len(names) == len(set(names))
    assert all(operation["summary"] and operation["responses"]["200"] for operation in operations)


def test_every_part_of_a_path_is_a_parameter(description: Any) -> None:
    for path, item in description["paths"].items():
        declared = [p["name"] for p in item.get("parameters", []) if p["in"] == "path"]
        assert declared == re.findall(r"{(\w+)}", path)


@pytest.mark.parametrize(
    ("method", "path", "schema"),
    [
        ("GET", "/v1/tables", "Tables"),
        ("GET", "/v1/session", "Session"),
        ("GET", "/v1/queries", "Queries"),
        ("GET", "/v1/queries/q0", "QueryInfo"),
        ("DELETE", "/v1/queries/q0", "QueryInfo"),
        ("POST", "/v1/explain", "Explanation"),
        ("GET", "/v1/nothing", "Problem"),
        ("GET", "/healthz", "Status"),
    ],
)
def test_answers_have_the_fields_that_are_described(
    client: httpx.Client, service: FakeService, method: str, path: str, schema: str
) -> None:
    service.remember("q0", "anonymous")
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    answer = client.request(method, path, json={"sql": "SELECT 1"} if method == "POST" else None).json()

    assert_fits(answer, schemas[schema], schemas)


def assert_fits(value: Any, schema: Any, schemas: Any) -> None:
    """Fail where an object has a field that is not described, or lacks one that is required."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            assert_fits(inner, schema["items"], schemas)
    elif isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= value.keys() <= schema["properties"].keys()
        for name, inner in value.items():
            assert_fits(inner, schema["properties"][name], schemas)
