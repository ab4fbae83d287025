"""The optional parts of the package: each library is in an extra, and a missing one is an error that names it."""

import sys
import tomllib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dagfusion_client
import dagfusion_query
import dagfusion_query.errors
from dagfusion_client import errors
from dagfusion_client.errors import OPTIONAL, EngineChoiceError, MissingExtraError, QueryError, needs
from dagfusion_interop.spark import import_client
from dagfusion_query import Result, program
from dagfusion_query.connection import EmbeddedConnection


def required(root: Path, distribution: str, extras: AbstractSet[str]) -> set[str]:
    """Return the distributions that one needs with these extras, and of ours what they need in turn."""
    if not distribution.startswith("dagfusion-"):
        return {distribution}
    name = distribution.removeprefix("dagfusion-")
    project = tomllib.loads((root / "packages" / name / "pyproject.toml").read_text())["project"]
    optional = project.get("optional-dependencies", {})
    texts = [*project["dependencies"], *(text for extra in extras for text in optional[extra])]
    return {distribution}.union(*(required(root, one.name, one.extras) for one in map(Requirement, texts)))


def test_the_optional_modules_are_those_of_the_extras(root: Path) -> None:
    project = tomllib.loads((root / "packages/query/pyproject.toml").read_text())["project"]
    everything = required(root, "dagfusion-query", {*project["optional-dependencies"]})
    modules = {"protobuf": "google", "grpcio": "grpc"}
    optional = everything - required(root, "dagfusion-query", set())
    names = [name.partition("-")[0] if name.startswith("opentelemetry-") else name for name in optional]
    assert {modules.get(name, name.replace("-", "_")) for name in names} | {"botocore"} == OPTIONAL  # boto3 brings it


def test_an_extra_of_the_client_is_one_of_the_engine(root: Path) -> None:
    client, query = (
        tomllib.loads((root / "packages" / name / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for name in ("client", "query")
    )
    passed_on = {extra: [Requirement(text) for text in query[extra]] for extra in client}
    assert {extra: [(one.name, one.extras) for one in ones] for extra, ones in passed_on.items()} == {
        extra: [("dagfusion-client", {extra})] for extra in client
    }


def test_the_spark_engine_is_asked_for_only_where_a_server_is_set(
    monkeypatch: pytest.MonkeyPatch, connect: Callable[..., EmbeddedConnection]
) -> None:
    monkeypatch.setattr("dagfusion_query.spark_engine.entry_points", lambda **_: ())
    here = connect()
    assert here.sql("SELECT 1 AS one", engine="auto").to_arrow().to_pylist() == [{"one": 1}]
    with pytest.raises(EngineChoiceError, match="set DAGFUSION_SPARK_REMOTE"):
        here.sql("SELECT 1", engine="spark")
    there = connect(DAGFUSION_SPARK_REMOTE="sc://localhost:1")
    missing = r"DAGFUSION_SPARK_REMOTE needs dagfusion-interop, .* pip install 'dagfusion-query\[spark\]'"
    for engine in ("auto", "spark"):
        with pytest.raises(MissingExtraError, match=missing):
            there.sql("SELECT 1", engine=engine)


def test_the_client_has_the_public_names_of_the_engine() -> None:
    assert dagfusion_client.__all__ == dagfusion_query.__all__


def test_the_errors_of_the_engine_are_those_of_the_client() -> None:
    """`dagfusion_query.errors` is a public name."""
    names = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, QueryError)]
    assert len(names) > 40
    assert [name for name in names if getattr(dagfusion_query.errors, name, None) is not getattr(errors, name)] == []


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
    ours = ("dagfusion_client.flight_client",)
    without(monkeypatch, "google.protobuf", *ours, "dagfusion_client.commands_and_tickets")
    with pytest.raises(MissingExtraError, match=r"needs protobuf, .* pip install 'dagfusion-query\[flight\]'"):
        dagfusion_query.connect(url)


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_frame_without_its_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    without(monkeypatch, library)
    with pytest.raises(MissingExtraError, match=rf"to_{library}\(\) needs {library}, .*'dagfusion-query\[{library}\]'"):
        getattr(Result, f"to_{library}")(None)  # before it takes any row


def test_the_command_without_its_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "dagfusion_cli")
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert str(ended.value) == (
        "error: the command `dagfusion` needs dagfusion-cli, which is not installed: pip install 'dagfusion-query[cli]'"
        "; for `dagfusion serve`: pip install 'dagfusion-query[server]'"
    )
