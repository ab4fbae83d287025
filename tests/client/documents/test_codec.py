"""Documents: what is written is read again as the same value, and fits the schema that is derived beside it."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagfusion_client import errors
from dagfusion_client.documents import catalog_documents, codec, query_documents
from dagfusion_client.documents.codec import DocumentError
from dagfusion_client.documents.query_documents import Failure, ProblemDocument, SqlRequest
from dagfusion_client.errors import QueryError
from dagfusion_client.formats import Format
from dagfusion_server.worker import messages
from tests.tiers import examples

KINDS = sorted(
    {
        found
        for module in (catalog_documents, query_documents, messages)
        for found in vars(module).values()
        if dataclasses.is_dataclass(found) and isinstance(found, type) and found is not messages.Message
    },
    key=lambda kind: kind.__name__,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(0, 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # bounds
    Any: st.none() | st.booleans() | TEXT,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Draw values of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if part is types.NoneType else values(part) for part in arguments))
    if origin is Mapping:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=3)
    if origin is not None:
        drawn = st.lists(values(arguments[0]), max_size=3)
        return drawn.map(tuple) if origin is tuple else drawn
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{known.name: values(hints[known.name]) for known in dataclasses.fields(kind)})  # type: ignore[arg-type]
    return st.sampled_from(kind) if issubclass(kind, StrEnum) else PLAIN[kind]


def fits(value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> bool:
    """Return True if a parsed document is one of a schema."""
    if "$ref" in schema or "oneOf" in schema:
        one_of = schema.get("oneOf") or [schemas[schema["$ref"].rpartition("/")[2]]]
        return any(fits(value, one, schemas) for one in one_of)
    if "enum" in schema:
        return value in schema["enum"]
    names = schema.get("type", [])
    if value is None:
        return not names or "null" in names
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties")
        return {*schema.get("required", ())} <= value.keys() and all(
            fits(inner, known.get(name, more), schemas) for name, inner in value.items() if known or more is not None
        )
    if isinstance(value, list):
        return all(fits(inner, schema["items"], schemas) for inner in value)
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return not names or kinds[type(value)] in names


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=examples(15))
@given(st.data())
def test_what_is_written_is_read_again(kind: type, data: st.DataObject) -> None:
    value = data.draw(values(kind))

    document = orjson.loads(codec.encode(value))

    assert codec.read(kind, document) == value
    assert codec.read(kind, {**document, "newer": 1}) == value
    schemas = codec.schemas(kind)
    shown_as = any("shown_as" in known.metadata for known in dataclasses.fields(kind))  # rows that are no dataclasses
    assert shown_as or fits(document, schemas[kind.__name__.removesuffix("Document")], schemas)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=examples(15))
@given(st.data())
def test_a_field_that_is_missing_has_its_default_or_is_named(kind: type, data: st.DataObject) -> None:
    document = orjson.loads(codec.encode(data.draw(values(kind))))
    assume(document)
    known = data.draw(st.sampled_from([field for field in dataclasses.fields(kind) if field.name in document]))
    del document[known.name]

    if known.default is dataclasses.MISSING and known.default_factory is dataclasses.MISSING:
        with pytest.raises(DocumentError, match=f"no {known.name}$"):
            codec.read(kind, document)
    else:
        default = known.default_factory() if known.default is dataclasses.MISSING else known.default
        assert getattr(codec.read(kind, document), known.name) == default


@pytest.mark.parametrize(
    ("kind", "document", "said"),
    [
        (query_documents.Stats, {"rows": "1"}, r"Stats.rows: '1' is no int"),
        (query_documents.Stats, {"rows": True}, r"Stats.rows: 'True' is no int"),
        (query_documents.Stats, {"scans": [{"table": 1}]}, r"Stats.scans: ScanStats.table: '1' is no str"),
        (query_documents.Stats, [], r"is no dict"),
        (messages.Statement, {}, r"Statement has no id"),
        (
            catalog_documents.TablesDocument,
            {"environments": [], "tables": [{}]},
            r"Tables.tables: BriefTable has no environment",
        ),
        (
            catalog_documents.RunDocument,
            {"run_id": "", "status": None, "created_at": "x"},
            r"Run.created_at: Invalid isoformat",
        ),
    ],
)
def test_a_document_of_other_types_is_refused(kind: type, document: object, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        codec.read(kind, document)


def every_error() -> Sequence[type[QueryError]]:
    return [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, QueryError)]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_each_error_crosses_with_all_that_it_says(kind: type[QueryError]) -> None:
    error = kind("it went wrong", **dict.fromkeys({"line", "column", "retry_after_s"} & told_by(kind), 7))
    problem = ProblemDocument(code=error.code, detail=str(error), **error.details())  # type: ignore[arg-type]

    for sent in (Failure.of(error), problem):
        received = codec.read(type(sent), orjson.loads(codec.encode(sent))).error()
        assert (type(received), str(received), received.details()) == (kind, str(error), error.details())


def told_by(kind: type[QueryError]) -> set[str]:
    """Return the arguments that an error of a class has beside its text."""
    return {*kind.__init__.__code__.co_varnames} if hasattr(kind.__init__, "__code__") else set()


def test_descriptions_are_those_of_the_docstrings() -> None:
    table = codec.schemas(catalog_documents.TableDocument)["Table"]["properties"]

    assert table["materialized_at"] == {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "The last materialization.",
    }
    assert table["warnings"]["description"] == "Partitions and columns that are left out, and why."


def test_the_schema_of_a_request_follows_from_its_fields() -> None:
    request = codec.schemas(SqlRequest)["SqlRequest"]

    assert request["required"] == ["sql"]
    assert [name for name, field in request["properties"].items() if "description" not in field] == []
    assert request["properties"]["limit_rows"]["type"] == ["integer", "null"]
    params = request["properties"]["params"]["oneOf"]
    assert params[1] == {"type": "null"}
    array, by_name = params[0]["oneOf"]
    assert array["items"] == by_name["additionalProperties"]
    assert {"$ref": "#/components/schemas/TypedParam"} in array["items"]["oneOf"][0]["oneOf"]
    assert "TypedParam" in codec.schemas(SqlRequest)


def test_what_is_not_set_in_a_request_is_left_out() -> None:
    assert codec.encode(SqlRequest("SELECT 1", format=Format.csv)) == b'{"sql":"SELECT 1","format":"csv"}'
    with pytest.raises(codec.DocumentError, match="timeout_s") as raised:
        codec.read(SqlRequest, {"sql": "SELECT 1", "timeout_s": True})
    assert raised.value.name == "timeout_s"
