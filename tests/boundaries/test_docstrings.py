"""The docstrings of the packages: how they begin, and how the entries of their sections do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")
# Riddles: the field's verbs and nouns say the same ("Return True if ...", "The time when ...").
FORBIDDEN = re.compile(r"(Say|Tell|Whether|What|Who|How|When|Where|Why|Look|Give|Let|Note|Have|Take|Learn)\b")
ENTRY = re.compile(r"[\w`*, .\[\]]+?(?: \([^)]*\))?: (.+)")
# Libraries whose names begin with a small letter.
LOWER = ("pandas", "polars", "pyarrow", "boto3", "psycopg", "libpq", "numpy", "obstore", "sqlglot")
UNCLEAR = re.compile(r"(It|They|There) (is|are|may not|has) ?(none|neither|not)?\.|\bis none\.|\bare none\.")

# Other names of what the glossary in CONTRIBUTING.md has: service's log, execution, full read, problem; and a riddle.
OTHER_NAMES = re.compile(
    r"\bsee the log\b|\brun of (a|the) (planned )?statement\b|\bfull syncs?\b|\btroubles?\b"
    r"|\b(is|are|was) told\b(?! apart)"
)


@pytest.fixture(scope="module")
def docstrings(root: Path) -> list[tuple[str, str]]:
    """The docstring of each function, method and class, with its place."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [
        (f"{path.relative_to(root)}:{node.lineno} {node.name}", text)
        for path in sorted(root.glob("packages/*/src/**/*.py"))
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]
    assert len(found) > 1000
    return found


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield the section and the text of each entry of a docstring's sections."""
    section = ""
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line in SECTIONS:
            section = line
        elif line and not indent:
            section = ""
        elif section and indent == 4:
            named = ENTRY.match(line.strip()) if section not in ("Returns:", "Yields:") else None
            if named is not None:
                yield section, named[1]


@pytest.mark.usefixtures("heavy")
def test_a_docstring_begins_with_a_verb_or_a_noun(docstrings: list[tuple[str, str]]) -> None:
    assert [place for place, text in docstrings if FORBIDDEN.match(text)] == []


def test_entries_of_sections_begin_with_a_capital(docstrings: list[tuple[str, str]]) -> None:
    begun = [(place, entry) for place, text in docstrings for _, entry in entries(text)]
    assert len(begun) > 1000
    small = [(place, entry) for place, entry in begun if re.match(r"[a-z]+(?=[\s,.;:]|$)", entry)]
    assert [(place, entry) for place, entry in small if not entry.startswith(LOWER)] == []


def test_entries_name_their_subject(docstrings: list[tuple[str, str]]) -> None:
    vague = re.compile(r"(Of|Those|Who)\b")
    named = ("Args:", "Attributes:")
    assert [
        (place, entry)
        for place, text in docstrings
        for section, entry in entries(text)
        if (section in named and vague.match(entry)) or (section == "Raises:" and UNCLEAR.search(entry))
    ] == []


@pytest.mark.usefixtures("heavy")
def test_terms_of_the_glossary_have_no_other_name(root: Path) -> None:
    """In docstrings, comments and texts alike."""
    lines = [
        (f"{path.relative_to(root)}:{number}", line.strip())
        for path in sorted(root.glob("packages/*/src/**/*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]
    assert len(lines) > 10_000
    assert [(place, line) for place, line in lines if OTHER_NAMES.search(line)] == []


@pytest.mark.parametrize(
    ("text", "is_bad"),
    [
        ("an internal error: see the log", True),
        ("an internal error: see the service's log", False),
        ("Start a run of a planned statement.", True),
        ("until the next full sync", True),
        ("its trouble", True),
        ("docs/how-to/troubleshooting.md", False),
        ("What it is told.", True),
        ("Objects without an etag cannot be told apart; one is told apart by its text.", False),
    ],
)
def test_the_other_names_that_are_refused(text: str, *, is_bad: bool) -> None:
    assert (OTHER_NAMES.search(text) is not None) == is_bad


@pytest.mark.parametrize(
    ("text", "is_bad"),
    [("Whether it is", True), ("Return True if it is.", False), ("Notes of a run", False), ("Take bytes.", True)],
)
def test_the_beginnings_that_are_refused(text: str, *, is_bad: bool) -> None:
    assert (FORBIDDEN.match(text) is not None) == is_bad
