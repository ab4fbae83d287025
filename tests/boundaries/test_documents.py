"""The documents name every folder, every setting and every error of the project."""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from dagfusion_query.config_file import ENVIRONMENT_KEYS
from scripts import reference

SETTING = re.compile(r"ENVIRONMENT|DAGSTER_HOME|(?:DAGFUSION|AWS|S3|UAT_S3|PROD_S3)_[A-Z0-9_]+")
OURS = re.compile(r"(?<![A-Z0-9_])DAGFUSION_[A-Z0-9_]*")
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]+)` \|", re.MULTILINE)
# How documents write the variables of one of several environments.
OF_ENVIRONMENT = re.compile(rf"DAGFUSION_(?:UAT|PROD|PROD_EU)_(?:{'|'.join(ENVIRONMENT_KEYS).upper()})")
OF_TESTS = frozenset(
    {
        "DAGFUSION_DAGSTER_CHART",
        "DAGFUSION_ICEBERG_OPENAPI",
        "DAGFUSION_KILLS",
        "DAGFUSION_MIXED_S",
        "DAGFUSION_REQUIRE_CONTAINERS",
        "DAGFUSION_SAMPLE",
        "DAGFUSION_SEED",
        "DAGFUSION_STATEMENTS",
    }
)
README_BYTES = 6000
PATH = re.compile(r"`([\w./-]+(?:\.py|/))`")
# A line of the table of folders: the folder, the sources of its package, and what is said of it.
FOLDER = re.compile(r"^\| `((packages/\w+/src/\w+/)?[\w./-]*/)` \| (.*) \|$", re.MULTILINE)
LISTED = re.compile(r"`(\w+)`(?:, |: )")  # a module in the list of a wheel's README


def sources(root: Path) -> list[Path]:
    return sorted(root.glob("packages/*/src/*"))


def modules(root: Path) -> Iterator[str]:
    """Each module and each folder of modules, as a path from the root of the repository."""
    for source in sources(root):
        for path in sorted(source.rglob("*.py")):
            if path.name != "__init__.py":
                yield str(path.relative_to(root))


def strings(root: Path) -> Iterator[str]:
    """Each string in the code of the packages."""
    for source in sources(root):
        for path in sorted(source.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.fixture(scope="module")
def architecture(root: Path) -> frozenset[str]:
    """The paths that ARCHITECTURE.md names between backticks, from the root of the repository or of a package."""
    return frozenset(PATH.findall((root / "ARCHITECTURE.md").read_text()))


def resolve(root: Path, name: str) -> list[Path]:
    bases = [root, *(root / package for package in ("packages",)), *sources(root)]
    return [base / name for base in bases if (base / name).exists()]


def test_every_path_of_architecture_md_exists(root: Path, architecture: frozenset[str]) -> None:
    assert len(architecture) > 20
    assert sorted(name for name in architecture if not resolve(root, name)) == []


def test_a_folder_of_architecture_md_has_the_files_of_its_line(root: Path) -> None:
    """Or its package has them, or the repository; not any other package."""
    lines = FOLDER.findall((root / "ARCHITECTURE.md").read_text())
    assert len(lines) > 30
    missing = [
        (folder, name)
        for folder, package, text in lines
        for name in PATH.findall(text)
        if not any((root / base / name).exists() for base in (folder, package or folder, ""))
    ]
    assert missing == []


def test_architecture_md_names_every_module(root: Path, architecture: frozenset[str]) -> None:
    named = {path for name in architecture for path in resolve(root, name)}
    unnamed = [module for module in modules(root) if not named & {root / module, *(root / module).parents[:1]}]
    assert unnamed == []


def test_the_readme_of_the_contract_lists_every_module(root: Path) -> None:
    package = root / "packages" / "contract"
    lines = [line for line in (package / "README.md").read_text().splitlines() if line.startswith("- `")]
    listed = sorted(name for line in lines for name in LISTED.findall(line))
    source = package / "src" / "dagfusion_contract"
    assert listed == sorted(path.stem for path in source.glob("*.py") if path.name != "__init__.py")


@pytest.mark.usefixtures("heavy")
def test_every_setting_is_documented(root: Path) -> None:
    settings = {text for text in strings(root) if SETTING.fullmatch(text)}
    assert {"ENVIRONMENT", "S3_BUCKET", "DAGFUSION_EVENT_LOG"} <= settings
    text = (root / "docs" / "reference" / "settings.md").read_text()
    assert sorted(name for name in settings if not re.search(rf"\b{name}\b", text)) == []


def prose(root: Path) -> Iterator[Path]:
    """Each file in which a user may read the name of a setting, the sources included."""
    for pattern in ("*.md", "*.yml", "docs/**/*.md", "deploy/**/*", "examples/**/*", "packages/*/README.md"):
        yield from (path for path in root.glob(pattern) if path.is_file())
    yield from root.glob("packages/*/src/**/*.py")


def is_known(name: str, variables: Collection[str]) -> bool:
    """Return True for the name of a setting, and for the beginning of one: `DAGFUSION_OBJECT_CACHE_*`."""
    if name.endswith("_"):
        return any(variable.startswith(name) for variable in variables)
    return name in variables or OF_ENVIRONMENT.fullmatch(name) is not None


@pytest.fixture(scope="module")
def variables() -> frozenset[str]:
    """The variables of the tables of settings, and those of the containers."""
    known = {setting.metadata["variable"] for part in reference.SETTINGS for setting in reference.settings(part)}
    return frozenset(known | reference.compose_settings().keys())


def test_every_name_of_a_setting_is_in_the_table(root: Path, variables: frozenset[str]) -> None:
    paths = [*prose(root)]
    assert len(paths) > 100
    unknown = {
        f"{path.relative_to(root)}: {name}"
        for path in paths
        for name in OURS.findall(path.read_text(errors="replace"))
        if not is_known(name, variables | OF_TESTS)
    }
    assert unknown == set()


def test_the_page_of_settings_has_the_table_and_no_other_variable(root: Path, variables: frozenset[str]) -> None:
    shown = ROW.findall((root / "docs" / "reference" / "settings.md").read_text())
    assert {*shown} == variables


def test_every_key_of_an_environment_is_documented(root: Path) -> None:
    text = (root / "docs" / "how-to" / "environments.md").read_text()
    assert [key for key in ENVIRONMENT_KEYS if f"`{key}`" not in text] == []


def test_the_generated_reference_is_that_of_the_code() -> None:
    pages = sorted(reference.FOLDER.glob("*.md"))
    written = {part[1] for page in pages for part in reference.PART.findall(page.read_text())}
    assert written == {*reference.PARTS}
    stale = [page.name for page in pages if reference.fill(page.read_text()) != page.read_text()]
    assert stale == [], "run `python scripts/reference.py`"


def test_the_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_bytes()) <= README_BYTES


def test_the_first_page_links_every_other(root: Path) -> None:
    docs = root / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"index.md"}
    assert pages - {*re.findall(r"\]\(([\w./-]+\.md)", (docs / "index.md").read_text())} == set()
