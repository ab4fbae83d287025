"""The JSON Schemas of the API's description: those of requests, and those that follow from the answers' classes."""

from collections.abc import Mapping
from typing import Any

from dagfusion_query.documents.catalog import HistoryDocument, PartitionsDocument, TablesDocument
from dagfusion_query.documents.codec import schemas
from dagfusion_query.documents.failures import ProblemDocument
from dagfusion_query.documents.queries import ExplanationDocument, QueriesDocument
from dagfusion_query.documents.session import SessionDocument, StatusDocument
from dagfusion_query.formats.result_format import Format

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": [*required], "properties": {**required, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PARAMS: Schema = {
    "description": "An array for $1, $2, ..., or an object for $name.",
    "oneOf": [_list(_ref("Param")), {"type": "object", "additionalProperties": _ref("Param")}, {"type": "null"}],
}
_COLUMN = {"name": _TEXT, "type": {**_TEXT, "description": "Arrow's name of the type."}}

_REQUESTS: Schema = {
    "SqlRequest": _object(
        {"sql": {**_TEXT, "description": "One read-only statement."}},
        {
            "params": _PARAMS,
            "format": {"enum": [form.value for form in Format], "description": "Else as Accept says, else arrow."},
            "timeout_s": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "limit_rows": {"type": ["integer", "null"], "minimum": 0},
        },
    ),
    "ExplainRequest": _object({"sql": _TEXT}, {"params": _PARAMS}),
    "Param": {
        "oneOf": [
            {"type": ["null", "boolean", "number", "string"]},
            _object({"type": {**_TEXT, "description": "An Arrow type, such as date32[day]."}, "value": {}}),
        ]
    },
    "Rows": _object({"columns": _list(_object(_COLUMN)), "rows": _list({"type": "array"})}),
}

SCHEMAS: Schema = {
    **_REQUESTS,
    **schemas(
        ExplanationDocument,
        QueriesDocument,
        TablesDocument,
        PartitionsDocument,
        HistoryDocument,
        SessionDocument,
        StatusDocument,
        ProblemDocument,
    ),
}
