"""The README's Python blocks run as they are printed, one after the other, where `dagfusion demo` has run."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.service import serving
from dagfusion_query.config import read_config
from tests.e2e.lake import EXTRACTS, ORDERS, ORDERS_BY_STATE, ORG_AGGREGATES, REGISTER, SALES_AGGREGATES, lake
from tests.e2e.services import Embedded

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def stack(tmp_path: Path, server_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process of a user in whose folder `dagfusion demo` has run."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    home = tmp_path / "dagster"
    home.mkdir()
    services = Embedded()
    with (
        services.database(server_folder("postgres")) as database,
        services.object_store(server_folder("s3")) as store,
        lake(database, store, home) as deployment,
    ):
        for key in (REGISTER, ORDERS):
            assert deployment.materialize(key)
        for key in (EXTRACTS, ORDERS_BY_STATE):
            assert deployment.materialize(key, "2024-01-01|AL", "2024-01-07|WY")
        for key in (ORG_AGGREGATES, SALES_AGGREGATES):
            assert deployment.materialize(key, "2024-01-01", "2024-01-07")
        for name, value in {**deployment.variables, "DAGFUSION_EVENT_LOG": deployment.event_log}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        monkeypatch.chdir(tmp_path)
        yield


@pytest.fixture
def text(root: Path) -> str:
    return (root / "README.md").read_text()


@pytest.mark.usefixtures("stack")
def test_the_python_of_the_readme_runs(text: str, tmp_path: Path) -> None:
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 2, "README.md shows how to use the IO managers and how to query, in ```python blocks"
    names: dict[str, object] = {"__name__": "readme"}
    with serving(os.environ, tmp_path) as service:
        for block in blocks:
            lines_before = text.count("\n", 0, block.start(1))
            code = block[1].replace("localhost:8080", f"localhost:{service.http_port}")
            code = code.replace("localhost:8081", f"localhost:{service.flight_port}")
            exec(compile("\n" * lines_before + code, "README.md", "exec"), names)  # noqa: S102  # our own document


def test_the_configuration_of_the_readme_is_one(text: str, tmp_path: Path) -> None:
    [block] = TOML.findall(text)
    (tmp_path / "dagfusion.toml").write_text(block)
    databases = {f"{name}_DATABASE_URL": f"postgresql://dagster@db/{name}" for name in ("UAT", "PROD")}
    config = read_config(databases, file=tmp_path / "dagfusion.toml")
    assert [environment.name for environment in config.environments] == ["uat", "prod"]
