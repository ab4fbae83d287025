"""Children are found by what they carry, and end for certain."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dagfusion_stack import process
from dagfusion_stack.errors import ServerError

pytestmark = pytest.mark.usefixtures("processes")

SLEEP = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"


def start(folder: Path, code: str) -> process.Child:
    return process.start("test", [sys.executable, "-c", code], mark=folder, log=folder / "log", environ={})


def test_the_children_of_a_child_that_has_ended_are_found(tmp_path: Path) -> None:
    child = start(tmp_path, PARENT)
    child.process.wait()
    found = process.marked(tmp_path)
    assert list(found.values()) == ["test"]
    process.end(found, signal.SIGTERM, timeout_s=10)
    assert process.marked(tmp_path) == {}


def test_a_child_and_its_children_leave_no_core_file(tmp_path: Path) -> None:
    limit = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)"
    before = resource.getrlimit(resource.RLIMIT_CORE)
    child = start(tmp_path, f"import subprocess, sys; {limit}; subprocess.run([sys.executable, '-c', {limit!r}])")
    child.process.wait()
    assert child.log.read_text().split() == ["0" if before[1] == 0 else "1"] * 2
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_neither_this_process_nor_another_folders_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        f"from pathlib import Path; from dagfusion_stack import process; print(process.marked(Path({str(tmp_path)!r})))"
    )
    monkeypatch.setenv(process.MARK, str(tmp_path))
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "{}"  # noqa: S603
    other = start(tmp_path, SLEEP)
    assert process.marked(tmp_path / "x") == {}
    other.stop()


def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    child = start(tmp_path, STUBBORN)
    child.wait_ready(lambda: "ready" in child.log.read_text(), timeout_s=10)
    process.end([psutil.Process(child.process.pid)], signal.SIGTERM, timeout_s=0.2)
    assert not psutil.pid_exists(child.process.pid)
    child.stop()  # harmless when there is nothing left


def test_an_end_before_ready_names_service_cause_and_log(tmp_path: Path) -> None:
    child = start(tmp_path, "print('starting'); raise RuntimeError('no luck'); print('never')")
    with pytest.raises(ServerError) as error:
        child.wait_ready(lambda: False, timeout_s=10)
    assert str(error.value) == f"test ended (exit code 1): RuntimeError: no luck; its log is {tmp_path / 'log'}"


def test_a_killed_service_is_named_by_the_signal(tmp_path: Path) -> None:
    child = start(tmp_path, SLEEP)
    child.process.kill()
    child.process.wait()
    with pytest.raises(ServerError, match=r"^test ended \(killed by SIGKILL\): no output; its log is "):
        child.check()


def test_never_ready_is_an_error_too(tmp_path: Path) -> None:
    child = start(tmp_path, SLEEP)
    with pytest.raises(ServerError, match="test was not ready after 0 s"):
        child.wait_ready(lambda: False, timeout_s=0.05)
    child.stop()


def test_starts_share_a_log_and_an_ending_has_a_line_of_its_own_start(tmp_path: Path) -> None:
    endings = []
    for code in ("print('\x1b[31mfirst\x1b[0m')", "print('second')", "pass"):
        child = start(tmp_path, code)
        child.process.wait()
        endings.append(child.ending())
    assert (tmp_path / "log").read_text() == "\x1b[31mfirst\x1b[0m\nsecond\n"
    log = tmp_path / "log"
    lines = ("first", "second", "no output")
    assert endings == [f"test ended (exit code 0): {line}; its log is {log}" for line in lines]


def test_finding_looks_at_each_process_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    environ = psutil.Process.environ

    def counted(self: psutil.Process) -> dict[str, str]:
        looked_at.append(self.pid)
        found: dict[str, str] = environ(self)
        return found

    monkeypatch.setattr(psutil.Process, "environ", counted)
    assert process.marked(tmp_path) == {}
    assert len(looked_at) == len({*looked_at}) > 0
