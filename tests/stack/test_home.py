"""The state folder: one holder at a time, and settings that only the owner reads."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dagfusion_stack import cli
from dagfusion_stack.errors import AlreadyRunningError, HomeError, SettingError
from dagfusion_stack.home import Home, ServerState
from dagfusion_stack.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from dagfusion_stack.home import Home
with Home(Path(sys.argv[1])).hold("up"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "deep" / "home")
    home.prepare()
    return home


@pytest.mark.usefixtures("processes")
def test_a_second_holder_is_told_of_the_first(home: Home) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(home.path)], stdout=subprocess.PIPE)  # noqa: S603
    assert other.stdout is not None
    other.stdout.readline()
    holder = home.holder()
    assert holder is not None
    assert (holder.command, holder.pid, holder.ready) == ("up", other.pid, False)
    with pytest.raises(AlreadyRunningError, match=rf"running already \(`dagfusion up`, process {other.pid}\)"):
        home.hold("up").__enter__()
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert home.holder() is None
    with home.hold("down"):
        pass


def test_a_holder_says_what_it_runs(home: Home) -> None:
    services = (ServerState("S3 server", 1, "log", "http://localhost:1"), ServerState("PostgreSQL", 2, "log"))
    with home.hold("up"):
        home.write_state("up", ready=True, services=services)
        holder = home.holder()
        assert holder is not None
        assert holder.ready
        assert holder.services == services
    assert home.holder() is None


def test_settings_for_others_are_private_and_come_back(home: Home) -> None:
    assert home.read_env() == {}
    variables = {"DAGFUSION_EVENT_LOG": "postgresql://postgres@/dagster?host=/a=b c", "AWS_SECRET_ACCESS_KEY": "k=="}
    home.write_env(variables)
    assert home.read_env() == variables
    assert stat.S_IMODE(home.env_file.stat().st_mode) == 0o600


def test_preparing_twice_changes_nothing(home: Home) -> None:
    (home.path / ".gitignore").write_text("mine")
    home.prepare()
    assert (home.path / ".gitignore").read_text() == "mine"


def test_a_folder_of_another_format_is_refused(home: Home) -> None:
    (home.path / "format").write_text("2\n")
    with pytest.raises(HomeError, match="has format '2' and this version reads 1: upgrade"):
        home.prepare()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match=r"state folder .*file/home cannot be used: Not a directory"):
        Home(tmp_path / "file" / "home").prepare()


def test_given_settings_win_over_variables(tmp_path: Path) -> None:
    settings = Settings.read({"DAGFUSION_HOME": str(tmp_path), "DAGFUSION_S3_PORT": "1"}, s3_port=2, dagster_port=None)
    assert settings == Settings(tmp_path, s3_port=2)
    assert Settings.read(settings.environ()) == settings


def test_a_stack_keeps_its_bucket(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGFUSION_HOME", str(home.path))
    assert cli._settings().bucket == "dagster-parquet-data"
    home.write_env({"S3_BUCKET": "dagfusion-local", "ENVIRONMENT": "local"})
    assert cli._settings().bucket == "dagfusion-local"
    monkeypatch.setenv("S3_BUCKET", "given")
    assert cli._settings().bucket == "given"
    monkeypatch.setenv("DAGFUSION_HOME", str(tmp_path / "another"))
    monkeypatch.delenv("S3_BUCKET")
    assert cli._settings().bucket == "dagster-parquet-data"


@pytest.mark.parametrize("text", ["-1", "0", "65536", "three", "3.0"])
def test_a_port_that_is_none_is_named(text: str) -> None:
    with pytest.raises(
        SettingError, match=f"DAGFUSION_DAGSTER_PORT must be a whole number from 1 to 65535, got '{text}'"
    ):
        Settings.read({"DAGFUSION_DAGSTER_PORT": text})


def test_a_bucket_that_cannot_be_is_named() -> None:
    with pytest.raises(SettingError, match=r"S3_BUCKET must be a bucket name .* got 'Not A Bucket'"):
        Settings.read({"S3_BUCKET": "Not A Bucket"})
