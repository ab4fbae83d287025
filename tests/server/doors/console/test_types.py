"""The console's types of documents have the fields of the service's documents."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dagfusion_client.documents.query_documents import State
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.formats import Format
from dagfusion_server.doors.http.openapi import SCHEMAS

# The console's interfaces, and the documents that they are.
DOCUMENTS = {
    "Problem": "CatalogProblem",
    "Environment": "Environment",
    "TableSummary": "BriefTable",
    "Column": "Column",
    "TableDetail": "Table",
    "Catalog": "Tables",
    "Run": "Run",
    "History": "History",
    "Session": "Session",
    "ScanStats": "ScanStats",
    "Stats": "Stats",
    "QueryCost": "QueryCost",
    "Failure": "Failure",
    "QueryInfo": "QueryInfo",
    "Filter": "FilterEffect",
    "ExplainedScan": "ScanExplanation",
    "Explanation": "Explanation",
}
INTERFACE = re.compile(
    r"^export interface (\w+)(?: extends (?:Omit<)?(\w+)[^{]*)? \{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
FIELD = re.compile(r"^  (\w+)(\??): (.+);$", re.MULTILINE)
TYPES = {"null": "null", "string": "string", "boolean": "boolean", "integer": "number", "number": "number"}


@pytest.fixture(scope="module")
def types(root: Path) -> str:
    return (root / "packages/server/console/src/api/types.ts").read_text()


@pytest.fixture(scope="module")
def interfaces(types: str) -> Mapping[str, Mapping[str, tuple[bool, str]]]:
    """The fields of each interface: whether they may be missing, and their types."""
    found: dict[str, dict[str, tuple[bool, str]]] = {"": {}}
    for name, base, body in INTERFACE.findall(types):
        found[name] = found[base] | {field: (bool(mark), kind) for field, mark, kind in FIELD.findall(body)}
    return found


def written(schema: Mapping[str, Any]) -> str:
    """Return a schema as a type of TypeScript."""
    match schema:
        case {"oneOf": kinds}:
            found = " | ".join(map(written, kinds))
        case {"$ref": reference}:
            document = reference.rpartition("/")[2]
            found = next(interface for interface, of in DOCUMENTS.items() if of == document)
        case {"enum": values}:
            found = "QueryState" if set(values) == set(State) else "EngineChoice"
        case {"items": items}:
            item = written(items)
            found = f"({item})[]" if " " in item else f"{item}[]"
        case {"additionalProperties": values}:
            found = f"Record<string, {written(values)}>"
        case {"type": [kind, "null"]}:
            found = f"{TYPES[kind]} | null"
        case _:
            found = TYPES[schema["type"]]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_interface_has_the_fields_of_its_document(
    interfaces: Mapping[str, Mapping[str, tuple[bool, str]]], name: str
) -> None:
    schema = SCHEMAS[DOCUMENTS[name]]
    expected = {field: written(of) for field, of in schema["properties"].items()}
    if name == "Catalog":
        expected["tables"] = "TableSummary[]"  # the console asks for brief ones
    omitted = set(expected) - set(schema["required"])
    types = {field: kind + (" | null" if field in omitted else "") for field, (_, kind) in interfaces[name].items()}

    assert types == expected
    assert omitted <= {field for field, (is_optional, _) in interfaces[name].items() if is_optional}


def test_there_is_no_other_interface(interfaces: Mapping[str, object]) -> None:
    assert interfaces.keys() - {""} == DOCUMENTS.keys()


def test_states_engines_and_formats_are_the_service_s(types: str) -> None:
    def members(name: str) -> set[str]:
        [union] = re.findall(rf"^export type {name} = (.+);$", types, re.MULTILINE)
        return set(re.findall(r'"(\w+)"', union))

    assert members("QueryState") == set(State)
    assert members("EngineChoice") == set(EngineChoice)
    assert members("DownloadFormat") < {str(form) for form in Format}
