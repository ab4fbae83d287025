"""The JSON documents of this API, as JSON Schemas for its description."""

from collections.abc import Mapping
from typing import Any

from dagfusion_query.formats.result_format import Format
from dagfusion_query.service.query import State

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_MOMENT: Schema = {"type": "string", "format": "date-time"}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": [*required], "properties": {**required, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PARAMS: Schema = {
    "description": "An array for $1, $2, ..., or an object for $name.",
    "oneOf": [_list(_ref("Param")), {"type": "object", "additionalProperties": _ref("Param")}, {"type": "null"}],
}
_TABLE = {
    "environment": _TEXT,
    "schema": _TEXT,
    "name": _TEXT,
    "asset_key": _list(_TEXT),
    "partition_columns": _list(_TEXT),
    "partitions": _COUNT,
    "rows": _COUNT,
    "bytes": _COUNT,
    "materialized_at": _or_null(_MOMENT),
    "problem": _or_null(_ref("Trouble")),
}
_SCAN = {"table": _TEXT, "files_total": _COUNT, "files_read": _COUNT, "bytes_total": _COUNT, "bytes_kept": _COUNT}
_COLUMN = {"name": _TEXT, "type": {**_TEXT, "description": "Arrow's name of the type."}}

SCHEMAS: Schema = {
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
    "Explanation": _object(
        {
            "path": _TEXT,
            "scans": _list(
                _object(
                    {
                        **_SCAN,
                        "filters": _list(_object({"text": _TEXT, "skipped": _COUNT, "by": _TEXT})),
                        "partitions": _list({"type": ["string", "null"]}),
                        "uris": _list(_TEXT),
                    }
                )
            ),
            "logical": _TEXT,
            "physical": _TEXT,
            "generations": {"type": "object", "additionalProperties": _COUNT},
        }
    ),
    "Stats": _object(
        {
            "files_total": _COUNT,
            "files_read": _COUNT,
            "files_skipped": _COUNT,
            "bytes_read": _COUNT,
            "rows": _COUNT,
            "result_bytes": _COUNT,
            "requests": {"type": ["integer", "null"]},
            "queued_s": _NUMBER,
            "planning_s": _NUMBER,
            "first_batch_s": _NUMBER,
            "total_s": _NUMBER,
            "generations": {"type": "object", "additionalProperties": _COUNT},
            "path": _TEXT,
            "truncated": _FLAG,
        },
        {"scans": _list(_object(_SCAN))},
    ),
    "QueryInfo": _object(
        {
            "id": _TEXT,
            "user": _TEXT,
            "door": _TEXT,
            "sql": _TEXT,
            "state": {"enum": [state.value for state in State]},
            "submitted_at": _MOMENT,
            "stats": _ref("Stats"),
            "error": _or_null(_object({"code": _TEXT, "message": _TEXT})),
        }
    ),
    "Queries": _object({"queries": _list(_ref("QueryInfo"))}),
    "Trouble": _object({"code": _TEXT, "detail": _TEXT}),
    "Environment": _object(
        {
            "name": _TEXT,
            "generation": _COUNT,
            "age_s": {"type": ["number", "null"], "description": "Since the event log was read."},
            "problem": _or_null(_ref("Trouble")),
            "dagster_url": {"type": ["string", "null"]},
        }
    ),
    "Tables": _object(
        {
            "environments": _list(_ref("Environment")),
            "tables": _list({"oneOf": [_ref("BriefTable"), _ref("Table")]}),
        }
    ),
    "BriefTable": _object({**_TABLE, "warnings": {**_COUNT, "description": "Partitions left out."}}),
    "Table": _object(
        {
            **_TABLE,
            "columns": _list(_object({**_COLUMN, "nullable": _FLAG, "partition": _FLAG})),
            "files": _COUNT,
            "last_run_id": {"type": ["string", "null"]},
            "dagster_url": {"type": ["string", "null"], "description": "The asset in Dagster's web interface."},
            "warnings": _list(_TEXT),
        }
    ),
    "Partitions": _object(
        {
            "partitions": _list(
                _object(
                    {
                        "partition_key": {"type": ["string", "null"]},
                        "rows": _COUNT,
                        "bytes": _COUNT,
                        "materialized_at": _MOMENT,
                        "run_id": {"type": ["string", "null"]},
                    }
                )
            ),
            "total": _COUNT,
        }
    ),
    "History": _object(
        {
            "partition_key": _TEXT,
            "runs": {
                **_list(
                    _object(
                        {
                            "run_id": _TEXT,
                            "status": {"type": ["string", "null"], "description": "Dagster's; null of a deleted run."},
                            "created_at": _MOMENT,
                        }
                    )
                ),
                "description": "The latest that were to materialize it, newest first.",
            },
            "materialized_at": {**_or_null(_MOMENT), "description": "The last materialization, wiped or not."},
            "wiped_at": {**_or_null(_MOMENT), "description": "The last wipe of the whole asset."},
        }
    ),
    "Session": _object({"user": _TEXT, "anonymous": _FLAG, "everything": _FLAG, "version": _TEXT}),
    "Status": _object({"status": _TEXT}),
    "Problem": _object(
        {"type": _TEXT, "title": _TEXT, "status": _COUNT, "code": _TEXT, "detail": _TEXT},
        {"query_id": _TEXT, "line": _COUNT, "column": _COUNT, "retry_after_s": _NUMBER},
    ),
}
