"""The guide to errors names every error that there is, and quotes only messages that the code can give."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import pytest

import dagfusion_client.errors
import dagfusion_contract.errors
import dagfusion_pipeline.errors
import dagfusion_stack.errors

BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TELLING_LETTERS = 8  # fewer could match anything
CAUSE_AND_FIX = re.compile(r"\bCause: .*\bFix: |\| Cause \| Fix \|", re.DOTALL)
LEAST_WORDS = 15  # of a cause and a fix
LEAST_NEW_WORDS = 15  # of them, that the messages do not have
ROWS = " | Cause | Fix |\n|---|---|---|\n"  # the head of a table of causes and fixes, after its first cell
TABLE = re.compile(rf"^\|[^|\n]*{re.escape(ROWS)}((?:\|.*\n)+)", re.MULTILINE)
CELL = re.compile(r"(?<!\\)\|")
LEAST_NEW_WORDS_OF_ROW = 5
AREA = "##"  # the level of the headings that have the errors of one area below them
HEADING = re.compile(r"^(#{2,6}) +(.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def document(root: Path) -> str:
    return (root / "docs" / "how-to" / "troubleshooting.md").read_text()


@pytest.mark.parametrize(
    "module",
    [dagfusion_contract.errors, dagfusion_pipeline.errors, dagfusion_client.errors, dagfusion_stack.errors],
    ids=lambda module: module.__name__,
)
def test_every_error_is_named(module: ModuleType, document: str) -> None:
    errors = [name for name, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(errors) > 5
    assert sorted(name for name in errors if f"`{name}`" not in document) == []


def test_errors_beside_those_modules_are_named(root: Path, document: str) -> None:
    sources = [path.read_text() for path in root.glob("packages/*/src/**/*.py")]
    found = {name for source in sources for name in re.findall(r"^class (\w+)\(QueryError\b", source, re.MULTILINE)}
    assert "MissingError" in found
    assert sorted(name for name in found if f"`{name}`" not in document) == []


def test_every_error_has_a_cause_and_a_fix_beside_its_messages(document: str) -> None:
    prose = [(title, BLOCK.sub("", text)) for title, text in sections(document)]
    assert len(prose) > 50
    assert {"`UnknownPastError`", "Starting `dagfusion serve`"} < {title for title, _ in prose}
    assert [title for title, text in prose if not CAUSE_AND_FIX.search(text)] == []
    assert [title for title, text in prose if len(text.split()) < LEAST_WORDS] == []


def test_a_cause_and_a_fix_say_more_than_the_messages(document: str) -> None:
    texts = [(title, BLOCK.sub("", text), " ".join(BLOCK.findall(text))) for title, text in sections(document)]
    new = [(title, words(prose) - words(messages)) for title, prose, messages in texts]
    assert [(title, sorted(found)) for title, found in new if len(found) < LEAST_NEW_WORDS] == []


def test_each_row_of_causes_and_fixes_says_more_than_its_message(document: str) -> None:
    found = list(rows(document))
    assert len(found) > 20
    assert {"ParameterError", "ResourceNotFoundException"} <= {
        word for row in found for word in re.findall(r"\w+", row[0])
    }
    for message, cause, fix in found:
        assert cause
        assert fix
        assert len(words(f"{cause} {fix}") - words(message)) >= LEAST_NEW_WORDS_OF_ROW, message


@pytest.mark.parametrize(
    "row", ["| `a b` | | fix it |", "| `a b` | because of this | |", "| `one two three` | three | two one |"]
)
def test_an_empty_row_is_found(document: str, row: str) -> None:
    """So that the test above can fail."""
    damaged = document.replace(ROWS, f"{ROWS}{row}\n", 1)
    assert len(list(rows(damaged))) == len(list(rows(document))) + 1
    with pytest.raises(AssertionError):
        test_each_row_of_causes_and_fixes_says_more_than_its_message(damaged)


def rows(document: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each row of the tables of causes and fixes: the message, the cause, the fix."""
    for table in TABLE.findall(document):
        for row in table.splitlines():
            cells = tuple(cell.strip() for cell in CELL.split(row.strip().removeprefix("|").removesuffix("|")))
            assert len(cells) == len(("message", "cause", "fix")), row
            yield cells


def sections(document: str) -> Iterator[tuple[str, str]]:
    """Yield the heading of each error and the text below it. A heading above others that has no messages has none."""
    found = [*HEADING.finditer(document)]
    for heading, following in zip_longest(found, found[1:]):
        text = document[heading.end() : following.start() if following else None]
        is_above_others = following is not None and len(following[1]) > len(heading[1])
        if len(heading[1]) > len(AREA) and (BLOCK.search(text) or not is_above_others):
            yield heading[2], text


def words(text: str) -> set[str]:
    return {*re.findall(r"[a-z]{3,}", text.lower())}


@pytest.mark.usefixtures("heavy")
def test_every_message_is_one_that_the_code_gives(root: Path, document: str) -> None:
    given = re.compile("|".join(patterns(root)), re.DOTALL)
    quoted = [line for block in BLOCK.findall(document) for line in block.splitlines()]
    assert len(quoted) > 50
    assert [line for line in quoted if not given.fullmatch(line)] == []


def patterns(root: Path) -> Iterator[str]:
    """A pattern for each text and each f-string of the packages, with anything for what an f-string fills in."""
    for path in sorted(root.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            letters = sum(char.isalpha() for text in texts if isinstance(text, str) for char in text)
            if letters >= TELLING_LETTERS:
                yield "".join(re.escape(text) if isinstance(text, str) else ".+" for text in texts)
