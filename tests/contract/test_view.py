"""The record of a view: what is written is read again, and what breaks the contract is refused."""

import json
from importlib.resources import files

import pyarrow as pa
import pytest

from dagfusion_contract.errors import MalformedRecordError, RecordVersionError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import MAX_SQL, read_view, view_entry

GOLDEN = json.loads(files("dagfusion_contract").joinpath("golden", "view_v1.json").read_text())
VIEW = GOLDEN["active_organizations"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_golden_entry_is_read_and_written(name: str) -> None:
    assert json.loads(json.dumps(view_entry(read_view(GOLDEN[name])))) == GOLDEN[name]


def test_an_entry_is_read_as_a_view() -> None:
    view = read_view(VIEW)

    assert view.sql == VIEW["sql"]
    assert view.tables == (TableName("uat_silver_tax_id", "partitioned_organizations"),)
    assert view.columns == pa.schema({"npi": pa.int64(), "state": pa.string()})


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_an_unknown_version_is_refused(version: object) -> None:
    with pytest.raises(RecordVersionError, match=r"dagfusion/view\.version must be 1"):
        read_view({**VIEW, "version": version})


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("sql", None, r"view\.sql must be text"),
        ("sql", " ", r"view\.sql must be text"),
        ("sql", "x" * (MAX_SQL + 1), r"view\.sql must be text"),
        ("tables", "a.b", r"view\.tables must be a list"),
        ("tables", ["orders"], r"view\.tables must be names"),
        ("tables", ["a.b.c"], r"view\.tables must be names"),
        ("tables", [None], r"view\.tables must be names"),
        ("columns", None, r"view\.columns must be a list"),
        ("columns", [], r"view\.columns must have one or more names"),
        ("columns", [VIEW["columns"][0]] * 2, r"each once"),
        ("columns", [{"name": "npi", "type": "no type", "nullable": True}], r"no type"),
    ],
)
def test_what_breaks_the_contract_is_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(MalformedRecordError, match=says):
        read_view({**VIEW, field: value})


def test_only_an_object_is_a_view() -> None:
    with pytest.raises(MalformedRecordError, match="must be a JSON object"):
        read_view([])
