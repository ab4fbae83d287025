"""The examples that are more than the commands of their README, which `test_blocks` runs."""

import ast
import json
import os
import runpy
import time
from pathlib import Path

import pytest

import dagfusion_query
from benchmarks.service import serving
from tests.doctest.documents import ROOT

EXAMPLES = ROOT / "examples"
DISCOVERY_TIMEOUT_S = 600.0  # only a service that hangs takes this long
EXPECTED = {"local_default.products": 1, "local_default.sales": 3}


def cells(notebook: Path) -> list[str]:
    return [
        "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]


@pytest.mark.usefixtures("stack")
def test_the_cells_of_the_notebook_run() -> None:
    notebook = EXAMPLES / "notebook" / "explore.ipynb"
    names: dict[str, object] = {"__name__": "notebook"}
    shown = []
    for cell in cells(notebook):
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(notebook), "exec"), names)  # noqa: S102  # our own notebook
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(notebook), "eval"), names)  # noqa: S307
            shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    tables, sales, pivot = shown[:3]
    assert "local_silver_commerce" in tables
    assert "<table" in sales
    assert "NY" in pivot


def test_the_notebook_has_no_outputs() -> None:
    found = json.loads((EXAMPLES / "notebook" / "explore.ipynb").read_text())["cells"]
    assert [cell["id"] for cell in found if cell.get("outputs")] == []


@pytest.mark.usefixtures("processes")  # of a run, whose output Dagster keeps
def test_an_existing_home_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGFUSION_EVENT_LOG", raising=False)
    runpy.run_path(str(EXAMPLES / "existing_home" / "assets.py"), run_name="__main__")
    with serving(os.environ, tmp_path) as server, dagfusion_query.connect(server.http) as service:
        deadline = time.monotonic() + DISCOVERY_TIMEOUT_S
        while {table.name: table.partitions for table in service.tables() if table.problem is None} != EXPECTED:
            assert time.monotonic() < deadline, service.tables()
            service.refresh()
        rows = service.sql(
            "SELECT sum(quantity * price) AS total FROM local_default.sales NATURAL JOIN local_default.products"
        ).to_arrow()
    assert rows["total"].to_pylist() == [6 * 0.5 + 60 * 0.75]
