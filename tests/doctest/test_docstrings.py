"""The examples in the docstrings of the packages give what they show."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"^ *>>> ", re.MULTILINE)
SOURCES = {
    ".".join(path.relative_to(folder).with_suffix("").parts): path
    for folder in sorted(ROOT.glob("packages/*/src"))
    for path in sorted(folder.rglob("*.py"))
    if EXAMPLE.search(path.read_text())
}


def test_each_package_but_the_reference_project_has_examples() -> None:
    packages = {name.partition(".")[0] for name in SOURCES}
    assert packages == {path.name for path in ROOT.glob("packages/*/src/*")} - {"dagfusion_reference"}
    assert len(SOURCES) > 25


@pytest.mark.parametrize("name", SOURCES)
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert (found.failed, found.attempted) == (0, len(EXAMPLE.findall(SOURCES[name].read_text())))
