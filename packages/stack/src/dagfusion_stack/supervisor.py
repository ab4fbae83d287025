"""The supervisor: starts the servers in order, watches them, and stops them in reverse order."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType

import psutil

from dagfusion_contract.uri import bucket_url
from dagfusion_stack import dagster, object_store, ports, postgres, process, query_service, sail, sockets
from dagfusion_stack.errors import PortBusyError, ServerError, StackError
from dagfusion_stack.home import Home, ServerState
from dagfusion_stack.restarts import Restarts
from dagfusion_stack.settings import Settings

WATCH_INTERVAL_S = 0.5
STOP_TIMEOUT_S = 15.0
SUPERVISOR_STOP_TIMEOUT_S = 120.0  # of a server at a time
# First what starts work, then what works, last what it is written to.
STOP_ORDER = (
    query_service.NAME,
    sail.NAME,
    dagster.DAEMON,
    dagster.WEBSERVER,
    dagster.CODE_LOCATION,
    object_store.NAME,
    postgres.NAME,
)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Settings of another store or another Dagster that the user's shell may have.
FOREIGN = ("AWS_", "S3_", "UAT_S3_", "PROD_S3_", "DAGSTER_", "DAGFUSION_", "ENVIRONMENT")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """A started server, and how it is stopped and started again."""

    child: process.Child
    stop: Callable[[], None]
    url: str | None = None
    again: Callable[[], "Server"] | None = None
    restarts: Restarts = field(default_factory=Restarts)

    def state(self) -> ServerState:
        """Describe the server to other processes."""
        restarts = self.restarts
        return ServerState(
            self.child.name, self.child.process.pid, str(self.child.log), self.url, restarts.count, restarts.last_end
        )


class Supervisor:
    """Starts servers into one state folder, watches them, and stops them; made by `supervise`."""

    def __init__(self, settings: Settings, command: str, say: Say) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self._command = command
        self._say = say
        self._servers: list[Server] = []
        self._ready = False

    def start_stores(self) -> dict[str, str]:
        """Start PostgreSQL and the S3 server, and write `stack.env`.

        Returns:
            The variables of `stack.env`.
        """
        with self._starting(postgres.NAME):
            database = self._start_postgres()
            self._started(_postgres_server(database, self._start_postgres))
            database.create_database(dagster.DATABASE)
        with self._starting(object_store.NAME):
            store = self._start_object_store(self.settings.s3_port)
            # On its port again, because the others have its URL.
            self._started(_store_server(store, lambda: self._start_object_store(store.port)))
        event_log = database.url(dagster.DATABASE)
        dagster.configure(self.home, event_log)
        variables = {
            "DAGFUSION_EVENT_LOG": event_log,
            "DAGSTER_HOME": str(self.home.dagster),
            "ENVIRONMENT": "local",
            "S3_BUCKET": self.settings.bucket,
            "DAGFUSION_CATALOG_CHECKPOINT": f"{bucket_url(self.settings.bucket)}_catalog",
            "DAGFUSION_CONSOLE_URL": query_service.console_url(self.settings.http_port),
            "DAGFUSION_OBJECT_URL": store.object_url,
            **store.environ(),
        }
        self.home.write_env(variables)
        return variables

    def start_all(self, *, distributed: bool = False) -> None:
        """Start every server, and tell other processes when all are ready.

        Args:
            distributed: Whether a Sail server runs statements of the query service, too.

        Raises:
            MissingExtraError: The extra `distributed` is not installed, and is needed.
            PortBusyError: Something else listens on a port that was asked for.
            ServerError: A server did not start.
        """
        if distributed:
            sail.require_installed()
        ports.require_free(self.settings.dagster_port, f"the {dagster.WEBSERVER}", "--dagster-port")
        query_service.require_free(self.settings.http_port, self.settings.flight_port)
        variables = self.start_stores()
        server = self._start_query_service(variables, self._start_sail(variables) if distributed else {})
        self.start_dagster(variables)
        with self._starting(query_service.NAME):
            server.wait_ready(
                lambda: query_service.answers(self.settings.http_port), timeout_s=query_service.START_TIMEOUT_S
            )
        self.home.write_ports(self.settings.http_port, self.settings.flight_port, self.settings.dagster_port)
        self._ready = True
        self._write_state()

    def start_dagster(self, variables: Mapping[str, str]) -> None:
        """Start the code location, the web interface and the daemon over the stores that `variables` name."""
        port = self.settings.dagster_port
        environ = child_environ(os.environ, variables)
        with self._starting(dagster.CODE_LOCATION):
            code = self._launched(lambda: dagster.start_code_location(self.home, environ))
            code.wait_ready(lambda: dagster.code_location_answers(self.home), timeout_s=dagster.START_TIMEOUT_S)
        webserver = self._launched(
            lambda: dagster.start_webserver(self.home, port, environ), f"http://localhost:{port}"
        )
        daemon = self._launched(lambda: dagster.start_daemon(self.home, environ))
        with self._starting(dagster.WEBSERVER):
            webserver.wait_ready(lambda: dagster.webserver_answers(port), timeout_s=dagster.START_TIMEOUT_S)
        if error := dagster.load_error(port):
            raise ServerError(f"the {dagster.CODE_LOCATION} could not be loaded: {error}; its log is {code.log}")
        with self._starting(dagster.DAEMON):
            daemon.wait_ready(lambda: dagster.daemon_answers(port), timeout_s=dagster.START_TIMEOUT_S)

    def watch(self) -> None:
        """Return never; a signal ends it as KeyboardInterrupt. A server that ends by itself is started again.

        Raises:
            ServerError: A server ended more often than it may.
        """
        while True:
            for number, server in enumerate(self._servers):
                if server.child.process.poll() is not None:
                    self._look_after(number, server)
            time.sleep(WATCH_INTERVAL_S)

    def _look_after(self, number: int, server: Server) -> None:
        """Record that a server has ended, or restart it when that is due."""
        restarts, now = server.restarts, time.monotonic()
        if restarts.due is None:
            self._note_end(server, server.child.ending())
        elif now >= restarts.due and server.again is not None:
            try:
                _end_leftovers(self.home, server.child.name)
                started = server.again()
            except (ServerError, PortBusyError) as error:
                self._note_end(server, str(error))
            else:
                restarts.started()
                self._servers[number] = replace(started, url=server.url, restarts=restarts)
                self._say(f"Started {server.child.name} again (restart {restarts.count})")
        else:
            return
        self._write_state()

    def _note_end(self, server: Server, how: str) -> None:
        if not server.restarts.ended(time.monotonic(), how) or server.again is None:
            raise ServerError(
                f"{how}; it ended more than {Restarts.LIMIT} times in {Restarts.WINDOW_S / 60:.0f} minutes, so the "
                "stack stops: fix the error in the log, then start the stack again"
            )
        self._say(f"{how}; it is started again")

    def stop(self) -> None:
        """Stop every server in reverse order, and whatever they started."""
        for server in reversed(self._servers):
            self._say(f"Stopping {server.child.name}")
            _end_server(server.child.name, process.marked(self.home.path))
            server.stop()
        end_servers(self.home)

    def _start_sail(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """Start the Sail server, and return the variables by which the query service finds it."""
        launch = partial(
            sail.launch,
            self.home,
            environ=child_environ(os.environ, variables),
            http_port=self.settings.http_port,
            token=sail.token(self.home, query_service.tokens_file(self.home)),
        )
        with self._starting(sail.NAME):
            child, port = sail.start(launch)
            url = sail.url(port)
            # On its port again, because the query service has its URL.
            self._started(Server(child, child.stop, url, lambda: _child_server(lambda: launch(port), url)))
        return sail.of_service(port)

    def _start_query_service(self, variables: Mapping[str, str], spark: Mapping[str, str]) -> process.Child:
        http, flight = self.settings.http_port, self.settings.flight_port
        dagster_url = f"http://localhost:{self.settings.dagster_port}"
        environ = child_environ(os.environ, variables)
        return self._launched(
            lambda: query_service.start(self.home, http, flight, environ, dagster_url=dagster_url, spark=spark),
            query_service.urls(http, flight),
        )

    def _start_postgres(self) -> postgres.Postgres:
        return postgres.start(self.home.postgres, log=self.home.logs / "postgres.log", mark=self.home.path)

    def _start_object_store(self, port: int) -> object_store.ObjectStore:
        buckets, log = [self.settings.bucket], self.home.logs / "s3.log"
        return object_store.start(self.home.s3, buckets=buckets, port=port, log=log, mark=self.home.path)

    def _launched(self, start: Callable[[], process.Child], url: str | None = None) -> process.Child:
        server = _child_server(start, url)
        self._started(server)
        return server.child

    def _started(self, server: Server) -> None:
        self._servers.append(server)
        self._write_state()

    def _write_state(self) -> None:
        servers = [server.state() for server in self._servers]
        self.home.write_state(self._command, ready=self._ready, services=servers)

    @contextlib.contextmanager
    def _starting(self, name: str) -> Iterator[None]:
        self._say(f"Starting {name}")
        started = time.monotonic()
        yield
        for server in self._servers:
            server.child.check()
        url = next((server.url for server in self._servers if server.child.name == name and server.url), "")
        self._say(f"  ready in {time.monotonic() - started:.1f} s {url}".rstrip())


def _child_server(start: Callable[[], process.Child], url: str | None) -> Server:
    child = start()
    return Server(child, child.stop, url, lambda: _child_server(start, url))


def _postgres_server(database: postgres.Postgres, start: Callable[[], postgres.Postgres]) -> Server:
    return Server(database.child, database.stop, None, lambda: _postgres_server(start(), start))


def _store_server(store: object_store.ObjectStore, start: Callable[[], object_store.ObjectStore]) -> Server:
    return Server(store.child, store.stop, store.endpoint, lambda: _store_server(start(), start))


def _end_leftovers(home: Home, name: str) -> None:
    """End what a server that ended has left, runs of the code location excepted: they go on without it."""
    left = {mate for mate, server in process.marked(home.path).items() if server == name}
    if name == dagster.CODE_LOCATION:
        left = {mate for mate in left if not dagster.is_run(mate)}
    process.end(left, signal.SIGKILL, timeout_s=STOP_TIMEOUT_S)


@contextlib.contextmanager
def supervise(settings: Settings, command: str, say: Say) -> Iterator[Supervisor]:
    """Hold the state folder, end what a killed supervisor left in it, and stop everything at the end.

    Args:
        settings: The settings of the stack.
        command: The name under which others see who holds the folder.
        say: Takes one line of progress.

    Raises:
        AlreadyRunningError: Another process holds the folder.
        HomeError: The folder cannot be used.
    """
    home = Home(settings.home)
    home.prepare()
    with home.hold(command), _signals_interrupt():
        if left := end_servers(home):
            say(f"Ended what was left of an earlier start: {', '.join(left)}")
        home.keep_logs()
        supervisor = Supervisor(settings, command, say)
        try:
            yield supervisor
        except StackError as error:
            with contextlib.suppress(OSError):  # a full disk must not hide what stopped the stack
                home.write_error(str(error))
            raise
        finally:
            with _signals_ignored():
                supervisor.stop()


def end_servers(home: Home) -> list[str]:
    """End every process that serves `home`, those that write first.

    Returns:
        The names of the servers that were ended.
    """
    found = process.marked(home.path)
    others = sorted(set(found.values()) - set(STOP_ORDER))
    for name in (*others, *STOP_ORDER):
        _end_server(name, found)
    for folder in (home.postgres, home.dagster):
        sockets.remove_private_folder(folder)
    return sorted(set(found.values()))


def _end_server(name: str, found: Mapping[psutil.Process, str]) -> None:
    mates = [mate for mate, server in found.items() if server == name]
    if name == dagster.CODE_LOCATION:
        runs = {mate for mate in mates if dagster.is_run(mate)}
        process.end(runs, signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)
        process.end(set(mates) - runs, signal.SIGKILL, timeout_s=STOP_TIMEOUT_S)
    else:
        stop_signal = postgres.STOP_SIGNAL if name == postgres.NAME else signal.SIGTERM
        process.end(mates, stop_signal, timeout_s=STOP_TIMEOUT_S)


def down(home: Home, say: Say) -> list[str]:
    """Stop the stack of `home`, whoever runs it, and whatever a killed supervisor left.

    Returns:
        The names of the servers that were stopped; empty when none ran.
    """
    stopped: list[str] = []
    if holder := home.holder():
        say(f"Stopping `dagfusion {holder.command}` (process {holder.pid})")
        stopped = [server.name for server in holder.services]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.end([psutil.Process(holder.pid)], signal.SIGTERM, timeout_s=SUPERVISOR_STOP_TIMEOUT_S)
    # Held meanwhile, so that no start in between loses its servers.
    with home.hold("down") if home.exists() else contextlib.nullcontext():
        return stopped + end_servers(home)


def child_environ(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for servers: this process's, with the stack's settings for Dagster and stores.

    Their connections to each other never go through a proxy.
    """
    own = {name: value for name, value in environ.items() if not name.startswith(FOREIGN)}
    direct = ",".join(filter(None, (environ.get("NO_PROXY") or environ.get("no_proxy"), "localhost", ports.LOOPBACK)))
    return {**own, **variables, "NO_PROXY": direct, "no_proxy": direct}


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    with _handling(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    # A signal that is ignored already stays so: `nohup` means it.
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
