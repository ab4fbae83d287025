"""What the generated client asks of the door, and responses that it has to refuse."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Names = Mapping[str, Any]
SPACE: Names = {"namespace": "uat_default"}
ORDERS: Names = {**SPACE, "table": "orders"}
KINDS: Names = {**SPACE, "table": "kinds"}
SEEN: Names = {**SPACE, "view": "seen"}
STATEMENT = "SELECT id FROM uat_default.kinds"
STRUCT = {"type": "struct", "fields": []}
CREATED = {"name": "new", "schema": STRUCT}
VERSION = {"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "representations": []}
RENAMED = {
    "source": {"namespace": ["uat_default"], "name": "orders"},
    "destination": {"namespace": ["uat_default"], "name": "new"},
}
CHANGE: dict[str, list[object]] = {"requirements": [], "updates": []}
WRITES: Mapping[str, Names] = {
    "create_namespace": {"create_namespace_request": {"namespace": ["new"]}},
    "drop_namespace": SPACE,
    "update_properties": {**SPACE, "update_namespace_properties_request": {"removals": ["a"]}},
    "create_table": {**SPACE, "create_table_request": CREATED},
    "register_table": {**SPACE, "register_table_request": {"name": "new", "metadata-location": "s3://lake/a"}},
    "update_table": {**ORDERS, "commit_table_request": CHANGE},
    "drop_table": ORDERS,
    "rename_table": {"rename_table_request": RENAMED},
    "commit_transaction": {"commit_transaction_request": {"table-changes": []}},
    "create_view": {
        **SPACE,
        "create_view_request": {
            **CREATED,
            "properties": {},
            "view-version": {**VERSION, "default-namespace": ["uat_default"]},
        },
    },
    "replace_view": {**SEEN, "commit_view_request": {"updates": []}},
    "drop_view": SEEN,
    "rename_view": {"rename_table_request": RENAMED},
}


def broken(body: Any, place: Sequence[str | int], value: Any) -> Any:
    """Return a body with another value at a place, or without it for None."""
    changed = copy.deepcopy(body)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    if value is None:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return changed


Wrong = tuple[Sequence[str | int], Any, str]
TASK, FILE = ("file-scan-tasks", 0), ("file-scan-tasks", 0, "data-file")
FIELD = ("metadata", "schemas", 0, "fields", 0)
BROKEN: Mapping[str, tuple[Names, Sequence[Wrong]]] = {
    "get_config": (
        {},
        [
            (("overrides",), None, "overrides"),
            (("defaults",), {"a": 1}, "defaults"),
            (("endpoints", 0), 1, "endpoints"),
        ],
    ),
    "list_tables": (
        SPACE,
        [
            (("identifiers", 0, "name"), None, "TableIdentifier\nname\n"),
            (("identifiers", 0, "namespace"), "uat_default", "namespace"),
            (("tables",), [], "at /tables"),
        ],
    ),
    "load_table": (
        ORDERS,
        [
            (("metadata",), None, "LoadTableResult\nmetadata\n"),
            (("metadata", "format-version"), "2", "format-version"),
            (("metadata", "format-version"), 4, "format-version"),
            (("metadata", "current-snapshot-id"), "7", "current-snapshot-id"),
            (("metadata", "table-uuid"), None, "table-uuid"),
            (("metadata", "currentSnapshot"), 7, "at /metadata/currentSnapshot"),
            (("metadata", "properties"), {"a": 1}, "properties"),
            (("metadata", "snapshots", 0, "manifest-list"), None, "manifest-list"),
            (("metadata", "snapshots", 0, "summary", "operation"), "insert", "operation"),
            (("metadata", "refs", "main", "type"), "trunk", "SnapshotReference\ntype\n"),
            ((*FIELD, "id"), "1", "StructField\nid\n"),
            ((*FIELD, "required"), None, "StructField\nrequired\n"),
            ((*FIELD, "type"), {"type": "list", "element": "long"}, "No match found"),
            (("config",), {"s3.path-style-access": True}, "config"),
        ],
    ),
    "load_credentials": (ORDERS, [(("storage-credentials", 0, "prefix"), None, "prefix")]),
    "load_view": (
        SEEN,
        [
            (("metadata", "versions"), None, "ViewMetadata\nversions\n"),
            (("metadata", "format-version"), 2, "format-version"),
            (("metadata", "versions", 0, "representations", 0, "dialect"), None, "dialect"),
        ],
    ),
    "plan_table_scan": (
        {**ORDERS, "plan_table_scan_request": {"filter": {"type": "gt", "term": "n", "value": 2**39}}},
        [
            (("plan-id",), None, "plan-id"),
            (("status",), "done", "done"),
            (("status",), None, "KeyError: 'status'"),
            (("plan-tasks",), [1], "plan-tasks"),
            ((*TASK, "residual-filter"), {"type": "odd", "term": "n"}, "odd"),
            ((*TASK, "residual-filter"), {"type": "gt", "term": "n"}, "LiteralExpression\nvalue\n"),
            ((*TASK, "residual-filter"), {"type": "gt", "term": 1, "value": 1}, "No match found"),
            ((*FILE, "record-count"), "1", "record-count"),
            ((*FILE, "file-path"), None, "file-path"),
            ((*FILE, "file-format"), "csv", "file-format"),
            ((*FILE, "content"), "deletes", "with the content"),
            ((*FILE, "partition"), [{"a": 1}], "no value of a primitive type"),
        ],
    ),
    "fetch_scan_tasks": (
        {**ORDERS, "fetch_scan_tasks_request": {"plan-task": "[0, null, true, false, 0]"}},
        [
            (("error", "type"), None, "ErrorModel\ntype\n"),
            (("error", "code"), 200, "ErrorModel\ncode\n"),
            (("error",), None, "IcebergErrorResponse\nerror\n"),
        ],
    ),
}
