"""Every Python, shell and SQL block of the documents runs as it is printed, in the order of its page."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import sqlglot
import yaml  # type: ignore[import-untyped]

import dagfusion_query
from benchmarks.service import Server
from dagfusion_query.config import read_config
from tests.doctest.documents import LANGUAGES, NOT_RUN, ROOT, RUN, Block, blocks, commands, documents, why_not

WITH_CODE = [document for document in documents() if any(block.language in RUN for block in blocks(document))]
MOST_NOT_RUN = 17


@pytest.fixture
def names() -> dict[str, object]:
    """The namespace that the Python blocks of one page share."""
    return {"__name__": "document"}


@pytest.mark.parametrize("document", WITH_CODE, ids=str)
def test_the_blocks_of_a_document_run(
    document: Path,
    names: dict[str, object],
    service: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.setenv("DAGFUSION_TOKENS", str(tmp_path / "tokens.json"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    ports = {"localhost:8080": f"localhost:{service.http_port}", "localhost:8081": f"localhost:{service.flight_port}"}
    run: Mapping[str, Callable[[Path, Block, str], None]] = {
        "python": lambda page, block, code: run_python(page, block, code, names),
        "sh": run_shell,
        "sql": run_sql,
    }
    for block in blocks(document):
        code = block.code
        for address, here in ports.items():
            code = code.replace(address, here)
        if block.language in RUN:
            run[block.language](document, block, code)


def run_python(document: Path, block: Block, code: str, names: dict[str, object]) -> None:
    exec(compile("\n" * block.line + code, str(document), "exec"), names)  # noqa: S102  # our own document


def run_shell(document: Path, block: Block, code: str) -> None:
    script = "\n".join(command for command in commands(code) if why_not(command) is None)
    done = subprocess.run(  # noqa: S603  # our own document
        ["/bin/bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{document}:{block.line}: {done.stdout}{done.stderr}"


def run_sql(document: Path, block: Block, code: str) -> None:
    if code.startswith(("CREATE USER", "DELETE FROM event_logs")):  # for the database of the event log
        with psycopg.connect(os.environ["DAGFUSION_EVENT_LOG"]) as database:
            database.execute(code.encode())
        return
    if why_not(code) is not None:
        return
    with dagfusion_query.connect() as connection:
        assert connection.sql(code).to_arrow().num_rows > 0, f"{document}:{block.line}"


def test_statements_for_other_engines_are_in_their_dialects() -> None:
    found = [block.code for document in documents() for block in blocks(document) if block.language == "sql"]
    dialects = {code: vendor[1].lower() for code in found if (vendor := re.match(r"-- (\w+), not run\n", code))}
    assert {*dialects.values()} == {"clickhouse", "snowflake", "starrocks"}
    for code, dialect in dialects.items():
        assert len(sqlglot.parse(code, dialect=dialect)) > 1


def test_every_block_has_a_language_that_a_test_reads() -> None:
    told = {(str(document), block.line, block.language) for document in documents() for block in blocks(document)}
    assert [place for place in sorted(told) if place[2] not in LANGUAGES] == []
    assert {language for _, _, language in told} == LANGUAGES


def test_what_does_not_run_is_little_and_runs_elsewhere() -> None:
    found = [block for document in documents() for block in blocks(document)]
    shell = [command for block in found if block.language == "sh" for command in commands(block.code)]
    used = {why_not(code) for code in (*shell, *(block.code for block in found if block.language == "sql"))} - {None}
    assert used == {*NOT_RUN}
    assert len(NOT_RUN) <= MOST_NOT_RUN
    assert [test for test in NOT_RUN.values() if not (ROOT / test).is_file()] == []


def test_data_in_documents_is_well_formed() -> None:
    found = [block.code for document in documents() for block in blocks(document) if block.language == "json"]
    assert len([json.loads(code) for code in found]) > 0


@pytest.mark.usefixtures("heavy")
@pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated")  # Dagster's own call
def test_components_in_documents_resolve() -> None:
    found = [block.code for document in documents() for block in blocks(document) if block.language == "yaml"]
    declarations = map(yaml.safe_load, found)
    components = [one for one in declarations if "type" in one and "template_vars_module" not in one]
    assert len(components) > 0
    for declared in components:
        package, _, name = declared["type"].rpartition(".")
        component = getattr(importlib.import_module(package), name)
        assert issubclass(component, dg.Component)
        assert isinstance(component.resolve_from_dict(declared["attributes"]), component)


@pytest.mark.usefixtures("heavy")
def test_components_in_documents_load_with_the_template_variables_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [pair for document in documents() for pair in pairwise(blocks(document))]
    found = [(above, block) for above, block in pairs if "template_vars_module" in block.code]
    assert {(above.language, block.language) for above, block in found} == {("python", "yaml")}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ENVIRONMENT", "local")
    package = "document_with_variables"
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{package}"\n'
    )
    defs = tmp_path / package / "defs"
    for number, (above, block) in enumerate(found):
        (defs / f"component_{number}").mkdir(parents=True)
        (defs / f"component_{number}" / "variables.py").write_text(above.code)
        (defs / f"component_{number}" / "defs.yaml").write_text(block.code)
    for folder in (defs.parent, defs):
        (folder / "__init__.py").touch()
    checks = dg.load_from_defs_folder(path_within_project=defs).asset_checks or ()
    days = {spec.partitions_def for one in checks for spec in one.check_specs}
    assert days == {dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")}


def test_the_configuration_in_documents_is_one(tmp_path: Path) -> None:
    found = [block.code for document in documents() for block in blocks(document) if block.language == "toml"]
    assert len(found) > 0
    databases = {f"{name}_DATABASE_URL": f"postgresql://dagster@db/{name}" for name in ("UAT", "PROD")}
    for code in found:
        (tmp_path / "dagfusion.toml").write_text(code)
        config = read_config(databases, file=tmp_path / "dagfusion.toml")
        assert {environment.name for environment in config.environments} in ({"uat", "prod"}, {"prod"})
