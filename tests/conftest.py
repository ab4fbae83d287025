"""What every test gets: a process that knows nothing of this machine's clouds, event logs and stacks."""

import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.tiers import FAST, WHOLE

ROOT = Path(__file__).resolve().parents[1]
OURS = ("AWS_", "DAGFUSION_", "DAGSTER_", "S3_", "UAT_S3_", "PROD_S3_", "PG")
KEPT = (
    "DAGFUSION_DAGSTER_CHART",
    "DAGFUSION_REWRITING_S",
    "DAGFUSION_ICEBERG_OPENAPI",
    "DAGFUSION_LOCALSTACK_IMAGE",
    "DAGFUSION_POSTGRES_IMAGE",
    "DAGFUSION_PYTHON_IMAGE",
    "DAGFUSION_REQUIRE_CONTAINERS",
)

# The time of one example says nothing on a shared machine. CI draws the same examples each time, so that what a change
# breaks is told apart from what chance finds, and three tenths of them; every other run draws new ones.
CI = "CI" in os.environ
PROFILE = hypothesis.settings.get_profile("ci" if CI else "default")
hypothesis.settings.register_profile("shared", parent=PROFILE, deadline=None, max_examples=30 if CI else WHOLE)
hypothesis.settings.register_profile(FAST, parent=hypothesis.settings.get_profile("shared"), max_examples=10)
hypothesis.settings.load_profile("shared")


TEMPROOT = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure(config: pytest.Config) -> None:
    """Give each session its examples, a folder of its own, and the default handler of Ctrl-C."""
    if config.option.markexpr == FAST:
        hypothesis.settings.load_profile(FAST)
    # A shell's background job ignores it, and so would the servers that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # pytest's common folder is closed to servers' users by the next session.
    if TEMPROOT not in os.environ:
        os.environ[TEMPROOT] = tempfile.mkdtemp(prefix="pytest-session-")
        config.add_cleanup(_remove_temproot)


def _remove_temproot() -> None:
    shutil.rmtree(os.environ.pop(TEMPROOT), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def clean_environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name == "ENVIRONMENT" or (name.startswith(OURS) and name not in KEPT):
                patch.delenv(name)
        nowhere = tmp_path_factory.mktemp("no-aws-profile")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
        patch.setenv("DAGFUSION_HOME", str(nowhere / "no-stack"))
        patch.setenv("DAGFUSION_RESULT_CACHE_DIR", "none")  # a statement that comes again is to read its objects again
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Let alembic keep Dagster's migrations, which are 90 modules, and which it reads for each new instance."""
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        if location not in known:
            known[location] = read(config)
        return known[location]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session", autouse=True)
def authorities_read_once() -> Iterator[None]:
    """Let httpx keep the certificate authorities, which it reads for each new client in 25 ms of CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def server_folder(processes: None) -> Iterator[Callable[[str], Path]]:  # noqa: ARG001  # it starts some
    """Makes folders for servers that run as another user, who may not enter pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="dagfusion-tests-", ignore_cleanup_errors=True) as folder:

        def make(name: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))

        yield make
