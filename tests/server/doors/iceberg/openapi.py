"""The OpenAPI document of the Iceberg REST catalog, as the validator of what clients send and what the door answers."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
import yaml  # type: ignore[import-untyped]
from jsonschema.validators import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from starlette.datastructures import Headers
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REPORT = {
    "report-type": "scan-report",
    "table-name": "orders",
    "snapshot-id": 1,
    "filter": True,
    "schema-id": 0,
    "projected-field-ids": [],
    "projected-field-names": [],
    "metrics": {"total-planning-duration": {"count": 1, "time-unit": "nanoseconds", "total-duration": 5}},
}
VARIABLE = "DAGFUSION_ICEBERG_OPENAPI"
MISSING = f"{VARIABLE} names no file: get open-api/rest-catalog-open-api.yaml of the repository apache/iceberg"
_FORM = "application/x-www-form-urlencoded"
_URI = "urn:iceberg-rest"
_SHOWN = 500  # characters of an error
_PREFIX = "/{prefix}"  # which this catalog does not have
_SUCCESS = range(200, 400)


class Exchange(NamedTuple):
    """A request below the catalog's path, and its answer."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    status: int
    answer_headers: Headers
    answer: bytes


class Validator:
    """Validates exchanges.

    Attributes:
        document: The OpenAPI document.
        exchanges: Those of the applications that it watches.
        seen: The operations of the document that were validated, each with the status of an answer.
        violations: What is not as the document says.

    Args:
        document: The OpenAPI document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = _absolute(document)
        self._registry: Registry[Any] = Registry().with_resource(_URI, DRAFT202012.create_resource(self.document))
        # Of two that fit a path, the one with more words of its own.
        paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._paths = {path: re.compile(_pattern(path)) for path in paths}
        self.exchanges: list[Exchange] = []
        self.seen: set[tuple[str, int]] = set()
        self.violations: list[str] = []

    def decide(self) -> None:
        """Validate all exchanges.

        Raises:
            AssertionError: One is not as the document says.
        """
        for exchange in self.exchanges:
            self._check(exchange)
        assert not self.violations, "\n".join(dict.fromkeys(self.violations))

    def _check(self, exchange: Exchange) -> None:
        """Validate an exchange. A request that is refused need not be valid."""
        path = next((path for path, known in self._paths.items() if known.fullmatch(exchange.path)), "")
        operation = self.document["paths"].get(path, {}).get(exchange.method.lower())
        title = f"{exchange.method} {path or exchange.path}: {exchange.status}"
        if operation is None:
            if exchange.status in _SUCCESS:
                self.violations.append(f"{title}: the document has no such operation")
            return
        self.seen.add((f"{exchange.method} {path}", exchange.status))
        if exchange.status in _SUCCESS:
            declared = [*self.document["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
            self._check_parameters(title, [*map(self._resolved, declared)], exchange)
            request = self._resolved(operation.get("requestBody", {}))
            content = exchange.headers, exchange.body
            self._check_content(f"{title}, request", request, *content, is_required=request.get("required", False))
        responses = {str(code): one for code, one in operation["responses"].items()}
        response = responses.get(str(exchange.status)) or responses.get(f"{exchange.status // 100}XX")
        if response is None:
            self.violations.append(f"{title}: the document has no such status")
        elif exchange.method != "HEAD":
            content = exchange.answer_headers, exchange.answer
            self._check_content(title, self._resolved(response), *content, is_required=True)

    def _check_parameters(self, title: str, declared: Sequence[Mapping[str, Any]], exchange: Exchange) -> None:
        known = {one["name"]: one["schema"] for one in declared if one["in"] == "query"}
        for name, value in parse_qsl(exchange.query, keep_blank_values=True):
            if name not in known:
                self.violations.append(f"{title}: the document has no parameter {name}")
            else:
                self._check_text(f"{title}, {name}", known[name], value)
        for one in declared:
            if one["in"] == "header" and one["name"] in exchange.headers:
                self._check_text(f"{title}, {one['name']}", one["schema"], exchange.headers[one["name"]])

    def _check_text(self, title: str, schema: Mapping[str, Any], text: str) -> None:
        value: Any = text
        match self._resolved(schema).get("type"):
            case "integer" if text.isdecimal():
                value = int(text)
            case "boolean" if text in ("true", "false"):
                value = text == "true"
            case "array":
                value = text.split(",")
        self._validate(title, schema, value)

    def _check_content(
        self, title: str, declared: Mapping[str, Any], headers: Headers, body: bytes, *, is_required: bool
    ) -> None:
        media_types = declared.get("content", {})
        media_type = headers.get("content-type", "").partition(";")[0]
        if not body:
            if media_types and is_required:
                self.violations.append(f"{title}: no body")
        elif media_type not in media_types:
            self.violations.append(f"{title}: a body of {media_type or 'no type'}, declared are {[*media_types]}")
        else:
            value = dict(parse_qsl(body.decode())) if media_type == _FORM else orjson.loads(body)
            self._validate(title, media_types[media_type]["schema"], value)

    def _validate(self, title: str, schema: Mapping[str, Any], value: Any) -> None:
        for error in Draft202012Validator(schema, registry=self._registry).iter_errors(value):
            place = "/".join(map(str, error.absolute_path))
            self.violations.append(f"{title}: at {place or 'the top'}: {error.message[:_SHOWN]}")

    def _resolved(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in value:
            value = self._registry.resolver().lookup(value["$ref"]).contents
        return value


@cache
def document() -> Mapping[str, Any] | None:
    """Return the document, if there is one here."""
    if VARIABLE not in os.environ:
        return None
    loaded: Any = yaml.load(Path(os.environ[VARIABLE]).read_bytes(), yaml.CSafeLoader)
    return corrected(loaded)


def corrected(found: Any) -> Mapping[str, Any]:
    """Return the document without what no answer or client can follow in it."""
    schemas = found["components"]["schemas"]
    # Each integer is of two kinds, and a text that is a date is a text, too.
    schemas["PrimitiveTypeValue"]["anyOf"] = schemas["PrimitiveTypeValue"].pop("oneOf")
    # A partition's value can be NULL, which Iceberg's own parsers write as null.
    value = schemas["ContentFile"]["properties"]["partition"]["items"]
    schemas["ContentFile"]["properties"]["partition"]["items"] = {"anyOf": [value, {"type": "null"}]}
    # Where the secret is in the header, as the document recommends, it is not in the form.
    schemas["OAuthClientCredentialsRequest"]["required"] = ["grant_type"]
    # Two errors of views have no envelope, which all others have.
    bare, envelope = ({"$ref": f"#/components/schemas/{name}"} for name in ("ErrorModel", "IcebergErrorResponse"))
    for path, operations in found["paths"].items():
        responses = operations["get"]["responses"].values() if "/views" in path and "get" in operations else ()
        for content in (response["content"] for response in responses if "content" in response):
            if content["application/json"]["schema"] == bare:
                content["application/json"]["schema"] = envelope
    checked: Mapping[str, Any] = found
    return checked


@contextmanager
def validated(mounts: Sequence[Mount], validator: Validator | None = None) -> Iterator[Sequence[Mount]]:
    """Yield routes whose exchanges are as the document says, if it is here.

    Raises:
        AssertionError: At the end, if one is not.
    """
    if validator is None:
        found = document()
        validator = None if found is None else Validator(found)
    if validator is None:
        yield mounts
        return
    yield recorded(mounts, validator.exchanges)
    validator.decide()


def recorded(mounts: Sequence[Mount], exchanges: list[Exchange]) -> Sequence[Mount]:
    """Return routes whose exchanges are added to a list."""
    return [Mount(one.path, _recording(one.app, exchanges)) for one in mounts]


def _recording(app: ASGIApp, exchanges: list[Exchange]) -> ASGIApp:
    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        sent, answered, start = list[Message](), list[bytes](), dict[str, Any]()
        headers = Headers(scope=scope)

        async def received() -> Message:
            sent.append(await receive())
            return sent[-1]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                if not sent and "content-length" in headers:  # the endpoint leaves the body unread
                    while (await received()).get("more_body"):
                        pass
            answered.append(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                remember()  # before the client can have all of it
            await send(message)

        def remember() -> None:
            path, query = scope["path"].removeprefix(scope["root_path"]), scope["query_string"].decode()
            body = b"".join(message.get("body", b"") for message in sent)
            answer_headers = Headers(raw=[*start["headers"]])
            response = start["status"], answer_headers, b"".join(answered)
            exchanges.append(Exchange(scope["method"], path, query, headers, body, *response))

        await app(scope, received, answer)

    return recording


def _absolute(value: Any) -> Any:
    """Return the document with references that have its URI, which validators of a part of it can follow."""
    if isinstance(value, Mapping):
        return {key: f"{_URI}{one}" if key == "$ref" else _absolute(one) for key, one in value.items()}
    return [_absolute(one) for one in value] if isinstance(value, list) else value


def _pattern(path: str) -> str:
    parts = re.split(r"(\{[^}]*\})", path.replace(_PREFIX, ""))
    return "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in parts)
