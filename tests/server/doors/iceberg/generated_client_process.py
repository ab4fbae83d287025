"""Run in an environment with apache-polaris: the client and models that a generator made of Iceberg's OpenAPI document.

Usage: generated_client_process.py CATALOG_URL. Each line of standard input is a command in JSON, and its answer is a
line in JSON. A response or a request that the models refuse is answered with `refused`, the reason.

- `operation`, `arguments`, `headers`: the client calls an operation of the catalog with arguments of these names. The
  answer has `status`, `headers`, `body`, which is the JSON, and `fields`, which is what the models made of it.
- `url` with these: another catalog.
- `response` with these: the client gets this response (`status`, `headers`, `body`) and sends nothing.
- `model`, `value`: a model reads a value. The answer has `fields`.
"""

import inspect
import json
import sys
import warnings
from enum import Enum
from types import SimpleNamespace
from typing import Any

from apache_polaris.sdk.catalog import models
from apache_polaris.sdk.catalog.api import IcebergCatalogAPI, IcebergConfigurationAPI, IcebergOAuth2API
from apache_polaris.sdk.catalog.api_client import ApiClient
from apache_polaris.sdk.catalog.configuration import Configuration
from apache_polaris.sdk.catalog.rest import RESTResponse
from pydantic import BaseModel
from urllib3 import HTTPHeaderDict

UNION = "actual_instance"  # of a model that is one of several
CHILDREN = {"and": "AndOrExpression", "or": "AndOrExpression", "not": "NotExpression"}
SETS = dict.fromkeys(("in", "not-in"), "SetExpression")
UNARY = dict.fromkeys(("is-null", "not-null", "is-nan", "not-nan"), "UnaryExpression")
COMPARISONS = ("lt", "lt-eq", "gt", "gt-eq", "eq", "not-eq", "starts-with", "not-starts-with")
TRUTHS = {"true": "TrueExpression", "false": "FalseExpression"}
EXPRESSIONS = TRUTHS | CHILDREN | SETS | UNARY | dict.fromkeys(COMPARISONS, "LiteralExpression")
PLANS = {"completed": "CompletedPlanningWithIDResult", "submitted": "AsyncPlanningResult"}
PLANS |= {"cancelled": "EmptyPlanningResult", "failed": "FailedPlanningResult"}


class RefusedError(Exception):
    """What is not as the document says."""


class Client(ApiClient):  # type: ignore[misc]  # installed by the test
    """The client, which raises nothing for a status, and gives the response beside what the models made of it."""

    canned: RESTResponse | None = None
    method = ""

    def param_serialize(self, method: str, resource_path: str, **others: Any) -> Any:
        """Return a request. This catalog has no prefix, which is optional, and the generated client always sends it."""
        self.method = method
        return super().param_serialize(method, resource_path.replace("/{prefix}", ""), **others)

    def call_api(self, *request: Any, **others: Any) -> RESTResponse:
        """Send a request, unless its response is known."""
        return self.canned or super().call_api(*request, **others)

    def response_deserialize(self, response_data: RESTResponse, response_types_map: dict[str, str | None]) -> Any:
        """Read a response by the model of its status.

        Raises:
            RefusedError: The document has no such status, body or field.
        """
        status, text = response_data.status, response_data.data.decode()
        kinds = [key for key in (str(status), f"{status // 100}XX") if key in response_types_map]
        if not kinds:
            raise RefusedError(f"the document has no status {status} here")
        # Errors of some requests have no envelope in the document. Iceberg's own parser of errors needs it in all.
        wanted = response_types_map[kinds[0]]
        wanted = "IcebergErrorResponse" if wanted == "ErrorModel" else wanted
        answer = {"status": status, "headers": dict(response_data.getheaders()), "body": None, "fields": None}
        if self.method == "HEAD" or (wanted is None and not text):
            return answer if not text else _refuse("a body")
        media_type = response_data.getheader("content-type")
        if wanted is None or media_type != "application/json":
            raise RefusedError(f"a body of {media_type} for {wanted or 'no model'}")
        body = json.loads(text)
        return answer | {"body": body, "fields": _read(wanted, body)}


def _refuse(reason: str) -> Any:
    raise RefusedError(reason)


def _read(model: str, value: Any) -> Any:
    """Return what a model makes of a value. Models drop fields that the document does not have: those are refused.

    Raises:
        RefusedError: A field was dropped or changed.
    """
    fields = _plain(getattr(models, model).from_dict(value))
    difference = _difference(value, fields)
    if difference:
        raise RefusedError(f"{model} has another value: {difference}")
    return fields


def _plain(value: Any) -> Any:
    """Return the JSON of a model. The models' own `to_dict` leaves out what the document calls read-only."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if not isinstance(value, BaseModel):
        return value
    known = type(value).model_fields
    if UNION in known:
        return _plain(getattr(value, UNION))
    fields = {field.alias or name: getattr(value, name) for name, field in known.items()}
    others = fields.pop("additional_properties", {})
    return {key: _plain(one) for key, one in fields.items() if one is not None} | others


def _difference(value: Any, read: Any, place: str = "") -> str:
    """Return the first place where a value was not read as it is, with both; empty if there is none."""
    if isinstance(value, dict) and isinstance(read, dict):
        places = [(f"{place}/{key}", one, read.get(key)) for key, one in value.items()]
    elif isinstance(value, list) and isinstance(read, list) and len(value) == len(read):
        places = [(f"{place}/{at}", one, read[at]) for at, one in enumerate(value)]
    else:
        same = type(value) is type(read) and value == read
        return "" if same else f"at {place}: {value!r:.100} is {read!r:.100}"
    return next(filter(None, (_difference(one, other, at) for at, one, other in places)), "")


def _expression(value: Any) -> Any:
    """Read an expression by its type.

    The generator made `type` any text, so each unary expression fits several of the models, and these refuse what fits
    several. This version of the document has only objects for true and false. Iceberg's own parsers write them as JSON
    has them, and so do later versions of the document, which deprecate the objects.
    """
    if isinstance(value, bool):
        return models.Expression.model_construct(actual_instance=value)
    model = EXPRESSIONS.get(value["type"]) or _refuse(f"an expression of type {value['type']!r}")
    return models.Expression.model_construct(actual_instance=getattr(models, model).from_dict(value))


def _value(value: Any) -> Any:
    """Read the value of a primitive type.

    The document says that it fits exactly one of integer, long, float, string, date and others, but each integer fits
    at least two, and each text eight. It does not mention NULL, which Iceberg's own parsers write as null.
    """
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise RefusedError(f"{value!r:.100} is no value of a primitive type")
    return models.PrimitiveTypeValue.model_construct(actual_instance=value)


def _plan(value: Any) -> Any:
    """Read a plan by its status, as the document's discriminator says.

    The generator dropped the discriminator and the constants of `status`, so each plan fits several of the models.
    """
    model = PLANS.get(value["status"]) or _refuse(f"a plan of status {value['status']!r}")
    return models.PlanTableScanResult.model_construct(actual_instance=getattr(models, model).from_dict(value))


def _data_file(value: Any) -> Any:
    """Read a data file. The generator dropped the constant of `content`."""
    if value["content"] != "data":
        raise RefusedError(f"a data file with the content {value['content']!r}")
    return _read_data_file(value)


def _sent_report(report: Any) -> Any:
    """Return the JSON of a scan report. The generator dropped `report-type`, which the document requires."""
    return {"report-type": "scan-report", **_write_report(report)}


def _report(value: Any) -> Any:
    """Read a report of a scan, with its type."""
    if value.get("report-type") != "scan-report":
        raise RefusedError(f"a report of type {value.get('report-type')!r}")
    return _read("ScanReport", {key: one for key, one in value.items() if key != "report-type"})


models.Expression.from_dict = _expression
models.PrimitiveTypeValue.from_dict = _value
models.PlanTableScanResult.from_dict = _plan
_read_data_file = models.DataFile.from_dict
models.DataFile.from_dict = _data_file
_write_report = models.ScanReport.to_dict
models.ScanReport.to_dict = _sent_report
configuration = Configuration(host=sys.argv[1])
client = Client(configuration)
apis = [api(client) for api in (IcebergCatalogAPI, IcebergConfigurationAPI, IcebergOAuth2API)]


def call(operation: str, arguments: dict[str, Any], headers: dict[str, str]) -> Any:
    """Let the client call an operation."""
    method = next(getattr(api, f"{operation}_with_http_info") for api in apis if hasattr(api, operation))
    filled = {}
    for name, value in arguments.items():
        model = "".join(part.title() for part in name.split("_"))
        filled[name] = getattr(models, model).from_dict(value) if name.endswith("_request") else value
    if "prefix" in inspect.signature(method).parameters:
        filled["prefix"] = ""
    return method(**filled, _headers=headers)


def run(command: dict[str, Any]) -> Any:
    """Run a command."""
    if command.get("model") == "ReportMetricsRequest":
        return {"fields": _report(command["value"])}
    if "model" in command:
        return {"fields": _read(command["model"], command["value"])}
    client.canned, configuration.host = None, command.get("url") or sys.argv[1]
    if "response" in command:
        response = command["response"]
        found = {"reason": "", "data": response["body"].encode(), "headers": HTTPHeaderDict(response["headers"])}
        client.canned = RESTResponse(SimpleNamespace(status=response["status"], **found))
    return call(command["operation"], command.get("arguments", {}), command.get("headers", {}))


warnings.simplefilter("ignore", DeprecationWarning)  # of the operation of tokens
for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as raised:  # noqa: BLE001  # the test compares it
        answer = {"refused": f"{type(raised).__name__}: {raised}"}
    print(json.dumps(answer), flush=True)  # noqa: T201  # the answer
