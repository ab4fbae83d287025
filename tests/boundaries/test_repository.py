"""What the repository may hold: text, small, and nothing of the machine or the registries it was made with."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("processes")

LARGEST_BYTES = 1_000_000
LONGEST_LINES = 400
SOURCES = {".py", ".ts", ".tsx", ".sh"}
IMAGES = {".png"}
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|(?:deb|security|ftp)[.]debian[.]org"
    r"|crates[.]io|proxy[.]golang[.]org|(?:gcr|ghcr|quay)[.]io|registry-1[.]docker"
)
SHARED = {Path("/"), Path(tempfile.gettempdir())}  # where a checkout may be, and what the repository may name
HOMES = re.compile(r"(?<![\w.$}])/(?:root|home/\w+|Users/\w+)/")


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    """Every file that is, or is about to be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return [path for name in listed.split("\0") if name and (path := root / name).is_file()]


@pytest.fixture(scope="module")
def texts(files: list[Path], root: Path) -> dict[str, str]:
    found = {}
    for path in files:
        if path.suffix not in IMAGES:
            content = path.read_bytes()
            assert b"\0" not in content, (
                f"{path.relative_to(root)} is binary: the repository holds text, and PNG images"
            )
            found[str(path.relative_to(root))] = content.decode()
    assert len(found) > 20
    return found


def matches(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    lines = ((name, number, line) for name, text in texts.items() for number, line in enumerate(text.splitlines(), 1))
    return [f"{name}:{number}: {found[0]}" for name, number, line in lines if (found := pattern.search(line))]


def test_no_file_is_large(files: list[Path], root: Path) -> None:
    assert [str(path.relative_to(root)) for path in files if path.stat().st_size > LARGEST_BYTES] == []


def test_no_source_file_is_long(texts: dict[str, str]) -> None:
    sources = {name: len(text.splitlines()) for name, text in texts.items() if Path(name).suffix in SOURCES}
    assert len(sources) > 500
    assert {name: lines for name, lines in sources.items() if lines > LONGEST_LINES} == {}
    assert f"at most {LONGEST_LINES} lines" in texts["CONTRIBUTING.md"]


def test_no_lock_file_that_names_a_registry_is_tracked(texts: dict[str, str]) -> None:
    assert [name for name in texts if Path(name).name in {"uv.lock", "pylock.toml"}] == []


def test_no_package_registry_is_named(texts: dict[str, str]) -> None:
    assert matches(texts, REGISTRIES) == []


def test_no_path_of_a_machine_is_named(texts: dict[str, str], root: Path) -> None:
    assert matches(texts, HOMES) == []
    checkout = [re.escape(f"{folder}/") for folder in (root, root.parent) if folder not in SHARED]
    assert matches(texts, re.compile("|".join(checkout))) == []


def test_every_property_draws_fewer_examples_in_the_fast_tier(texts: dict[str, str]) -> None:
    tests = {name: text for name, text in texts.items() if name.startswith("tests/") and name.endswith(".py")}
    assert matches(tests, re.compile(r"settings\(.*max_examples=examples\(")) != []
    assert matches(tests, re.compile(r"settings\(.*max_examples=(?!examples)")) == []


def test_no_package_is_a_folder_of_leftovers(texts: dict[str, str]) -> None:
    """A module called `utils` has no one job."""
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [name for name in texts if name.endswith(".py") and vague & {*Path(name).with_suffix("").parts}] == []
