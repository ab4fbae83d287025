"""Imports: within a package from a higher layer to a lower one only, and heavy libraries in their homes only."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

from tests.boundaries.layers import CROSSING, HOMES, LAYERS, NEIGHBOURS, QUERY_SIDE, SHARED_FILE_NAMES

Imports = Mapping[str, frozenset[str]]


def within(module: str, home: str) -> bool:
    """Whether a module is the home or inside it; a home that ends in `_` is the beginning of a name."""
    return module == home or module.startswith(home if home.endswith("_") else f"{home}.")


def sources(root: Path, package: str) -> Iterator[Path]:
    """The modules of a package that are named by their file."""
    paths = sorted((root / "packages" / package.removeprefix("dagfusion_") / "src" / package).rglob("*.py"))
    return (path for path in paths if not path.stem.startswith("__"))


def imported(tree: ast.Module) -> Iterator[str]:
    """The absolute names of everything a module imports, wherever it does, also by `import_module("...")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "import_module":
            yield from (
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


@pytest.fixture(scope="module")
def imports(root: Path) -> Imports:
    """What each module of the packages imports."""
    found = {}
    for source in sorted(root.glob("packages/*/src")):
        for path in sorted(source.rglob("*.py")):
            module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
            found[module] = frozenset(imported(ast.parse(path.read_text(), str(path))))
    assert {module.partition(".")[0] for module in found} == set(NEIGHBOURS)
    return found


def arrows(imports: Imports) -> Iterator[tuple[str, str]]:
    return ((module, name) for module, names in imports.items() for name in sorted(names))


def layer(module: str) -> str:
    """The first name inside the package; the package's own module counts as above all others."""
    return [*module.split("."), ""][1]


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("package", NEIGHBOURS)
def test_packages_keep_to_their_neighbours(imports: Imports, package: str) -> None:
    strangers = NEIGHBOURS.keys() - NEIGHBOURS[package] - {package}
    crossing = [
        f"{module} imports {name}"
        for module, name in arrows(imports)
        if within(module, package)
        and name.partition(".")[0] in strangers
        and (module, name.partition(".")[0]) not in CROSSING
    ]
    assert crossing == []


def imported_first(root: Path, module: str) -> set[str]:
    """What a module imports when it is itself imported."""
    package = module.partition(".")[0].removeprefix("dagfusion_")
    path = root / "packages" / package / "src" / f"{module.replace('.', '/')}.py"
    if not path.exists():
        path = path.with_suffix("") / "__init__.py"
    nodes = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom))
    return {name for node in nodes for name in imported(ast.Module([node], []))}


@pytest.mark.usefixtures("heavy")
def test_what_may_cross_does_and_only_when_it_is_run(root: Path, imports: Imports) -> None:
    found = {(module, name.partition(".")[0]) for module, name in arrows(imports)}
    assert found >= CROSSING
    for module, package in CROSSING:
        if not any(within(name, package) for name in imported_first(root, module)):
            continue
        for importer, name in arrows(imports):
            if importer != module and within(name, module):
                assert name not in imported_first(root, importer), f"{importer} imports {module} before it is needed"


@pytest.mark.usefixtures("heavy")
def test_the_contract_needs_pyarrow_alone(imports: Imports) -> None:
    """The clients of AWS are for packages that require boto3."""
    known = {"dagfusion_contract", "pyarrow", *sys.stdlib_module_names}
    others = {
        (module, library)
        for module, name in arrows(imports)
        if within(module, "dagfusion_contract") and (library := name.partition(".")[0]) not in known
    }
    assert others == {("dagfusion_contract.aws_client", library) for library in ("boto3", "botocore")}


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_has_a_layer(imports: Imports, package: str) -> None:
    layers = {layer(module) for module in imports if within(module, package)} - {""}
    assert layers == set(LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_goes_to_a_higher_layer(imports: Imports, package: str) -> None:
    heights = {name: height for height, name in enumerate((*LAYERS[package], ""))}
    rising = [
        f"{module} imports {name}"
        for module, name in arrows(imports)
        if within(module, package) and within(name, package) and heights[layer(name)] > heights[layer(module)]
    ]
    assert rising == []


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_no_modules_import_each_other_in_a_circle(imports: Imports, package: str) -> None:
    """Also not inside of functions. The `__init__` of a folder is left out, because it only passes names on."""
    folders = {module.rpartition(".")[0] for module in imports}
    modules = {module for module in imports if within(module, package)} - folders
    below = {
        module: {known for name in imports[module] for known in (name, name.rpartition(".")[0])} & (modules - {module})
        for module in modules
    }
    TopologicalSorter(below).prepare()  # raises CycleError with the modules


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_stay_at_home(imports: Imports, library: str) -> None:
    elsewhere = [
        f"{module} imports {name}"
        for module, name in arrows(imports)
        if within(name, library) and not any(within(module, home) for home in HOMES[library])
    ]
    assert elsewhere == []


def test_what_runs_in_a_worker_process_is_not_imported_by_the_service(root: Path, imports: Imports) -> None:
    home = "dagfusion_server.worker"
    runs_in: dict[str, set[str]] = {"Worker process": set(), "Both processes": set()}
    for path in (root / "packages/server/src/dagfusion_server/worker").glob("*.py"):
        if path.name != "__init__.py":
            runs_in[(ast.get_docstring(ast.parse(path.read_text())) or "").partition(":")[0]].add(f"{home}.{path.stem}")
    listed = {f"{home}.{name}" for name in re.findall(r"`(\w+)`", importlib.import_module(home).__doc__ or "")}
    assert set().union(*runs_in.values()) == listed | {f"{home}.__main__"}
    crossing = [
        f"{module} imports {name}"
        for module, name in arrows(imports)
        if module not in runs_in["Worker process"] and any(within(name, own) for own in runs_in["Worker process"])
    ]
    assert crossing == []


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("packages", [QUERY_SIDE, *([package] for package in NEIGHBOURS)], ids="-".join)
def test_no_two_public_classes_share_a_name(root: Path, packages: Sequence[str]) -> None:
    found: dict[str, list[str]] = {}
    for path in chain.from_iterable(sources(root, package) for package in packages):
        for node in ast.parse(path.read_text(), str(path)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(root)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the public type aliases of a module, each with its value."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                yield target.id, ast.unparse(node.value)


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_no_type_alias_has_the_name_of_a_public_class(root: Path, package: str) -> None:
    trees = [ast.parse(path.read_text(), str(path)) for path in sources(root, package)]
    classes = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    assert [name for tree in trees for name, _ in aliases(tree) if name in classes] == []


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_a_type_alias_is_defined_once(root: Path, package: str) -> None:
    found: dict[str, list[str]] = {}
    for path in sources(root, package):
        for name, _ in aliases(ast.parse(path.read_text(), str(path))):
            found.setdefault(name, []).append(str(path.relative_to(root)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_names_of_options_and_arguments_of_commands_say_so(root: Path, package: str) -> None:
    """So that they are not taken for what they hold: `TableArgument`, beside the class `Table`."""
    for path in sources(root, package):
        for name, value in aliases(ast.parse(path.read_text(), str(path))):
            for kind in ("Argument", "Option"):
                assert name.endswith(kind) or f"typer.{kind}(" not in value, f"{path.name}: {name}"


@pytest.mark.parametrize("packages", [QUERY_SIDE, *([package] for package in NEIGHBOURS)], ids="-".join)
def test_no_two_modules_share_a_file_name(root: Path, packages: Sequence[str]) -> None:
    found: dict[str, list[str]] = {}
    for path in chain.from_iterable(sources(root, package) for package in packages):
        found.setdefault(path.stem, []).append(str(path.relative_to(root)))
    allowed = SHARED_FILE_NAMES.get("-".join(packages), frozenset())
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in allowed} == {}


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_no_module_has_the_name_of_another_folder(root: Path, package: str) -> None:
    paths = list(sources(root, package))
    folders = {path.parent.name for path in paths}
    assert [path for path in paths if path.stem in folders - {path.parent.name}] == []


@pytest.mark.parametrize("package", ["pipeline", *(name.removeprefix("dagfusion_") for name in QUERY_SIDE)])
def test_tests_mirror_the_package(root: Path, package: str) -> None:
    """Each folder of a package has its tests in a folder of that name, and no other folder has tests."""

    def folders(top: Path, names: str) -> set[str]:
        paths = set(top.rglob(names)) - {top / "__init__.py"}
        return {str(path.parent.relative_to(top)) for path in paths}

    code = folders(root / "packages" / package / "src" / f"dagfusion_{package}", "*.py")
    others = {"processes"} if package == "server" else set()  # the service as processes of the command line
    assert folders(root / "tests" / package, "test_*.py") == code | others
