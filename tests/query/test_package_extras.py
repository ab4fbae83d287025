"""The optional parts of the package: each library is in an extra, and a missing one is an error that names it."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dagfusion_query
from dagfusion_query import Result
from dagfusion_query.cli import program
from dagfusion_query.errors import OPTIONAL, MissingExtraError, needs
from dagfusion_query.spark import import_client


def test_the_optional_modules_are_those_of_the_extras(root: Path) -> None:
    project = tomllib.loads((root / "packages/query/pyproject.toml").read_text())["project"]
    extras = [Requirement(text).name for texts in project["optional-dependencies"].values() for text in texts]
    modules = {"protobuf": "google", "grpcio": "grpc"}
    names = [name.partition("-")[0] if name.startswith("opentelemetry-") else name for name in extras]
    libraries = {modules.get(name, name.replace("-", "_")) for name in names} - {"dagfusion_query"}
    assert libraries | {"botocore"} == OPTIONAL  # boto3 brings it
    needed = {Requirement(text).name.replace("-", "_") for text in project["dependencies"]}
    assert needed & OPTIONAL == set()


def test_the_spark_engine_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"DAGFUSION_SPARK_REMOTE needs grpcio, .* 'dagfusion-query\[spark\]'"):
        import_client()


def test_a_module_that_no_extra_installs_is_missed_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"), needs("cli", "this"):
        import nowhere  # type: ignore[import-not-found]  # noqa: F401, PLC0415


def without(patch: pytest.MonkeyPatch, library: str, *modules: str) -> None:
    """Make a library as good as not installed, for modules of ours that import it."""
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        patch.delitem(sys.modules, name)
    for name in modules:
        patch.delitem(sys.modules, name, raising=False)
    patch.setitem(sys.modules, library, None)


@pytest.mark.parametrize("url", ["grpc://localhost:1", "grpc+tls://localhost:1"])
def test_flight_without_protobuf_names_its_extra(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    ours = ("dagfusion_query.client.flight_client",)
    without(monkeypatch, "google.protobuf", *ours, "dagfusion_query.doors.flight.commands_and_tickets")
    with pytest.raises(MissingExtraError, match=r"needs protobuf, .* pip install 'dagfusion-query\[flight\]'"):
        dagfusion_query.connect(url)


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_frame_without_its_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    without(monkeypatch, library)
    with pytest.raises(MissingExtraError, match=rf"to_{library}\(\) needs {library}, .*'dagfusion-query\[{library}\]'"):
        getattr(Result, f"to_{library}")(None)  # before it takes any row


def test_the_command_without_its_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "typer", "dagfusion_query.cli.main")
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert str(ended.value) == (
        "error: the command `dagfusion` needs typer, which is not installed: pip install 'dagfusion-query[cli]'"
        "; for `dagfusion serve`: pip install 'dagfusion-query[server]'"
    )
