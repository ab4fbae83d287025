"""The embedded S3 server: loopback only, durable, and closed to wrong keys."""

import socket
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import obstore
import psutil
import pytest
from obstore.exceptions import PermissionDeniedError
from obstore.store import S3Store

from dagfusion_stack import object_store, ports, process
from dagfusion_stack.errors import PortBusyError, ServerError

pytestmark = pytest.mark.usefixtures("processes")


def store(server: object_store.ObjectStore, **others: str) -> S3Store:
    keys = {
        "access_key_id": server.credentials.access_key_id,
        "secret_access_key": server.credentials.secret_access_key,
    }
    return S3Store(
        "lake",
        endpoint=server.endpoint,
        region=object_store.REGION,
        client_options={"allow_http": True},
        **{**keys, **others},  # type: ignore[arg-type]
    )


def test_objects_keys_and_ports_outlive_the_server(tmp_path: Path) -> None:
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        obstore.put(store(server), "folder/state=CA/a", b"content")
        first = server
    assert list(object_store.SOCKETS.glob(f"seaweedfs-*-{first.port}.sock")) == []
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        assert bytes(obstore.get(store(server), "folder/state=CA/a").bytes()) == b"content"
        assert (server.port, server.inner_ports, server.credentials) == (
            first.port,
            first.inner_ports,
            first.credentials,
        )


def test_it_is_ready_when_objects_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        obstore.put(server.bucket("lake"), "a", b"x" * 5000)
    for volume in (tmp_path / "data").glob("**/*.dat"):
        volume.unlink()  # as if it were not known yet: the object is listed, its bytes are nowhere
    monkeypatch.setattr(object_store, "START_TIMEOUT_S", 3.0)
    with pytest.raises(ServerError, match="not ready"):
        object_store.start(tmp_path, buckets=["lake"])


def test_a_kept_port_that_is_busy_is_replaced(tmp_path: Path) -> None:
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        obstore.put(store(server), "a", b"content")
        first = server
    with (
        socket.create_server((ports.LOOPBACK, first.port)),
        socket.create_server((ports.LOOPBACK, first.inner_ports["master.port"])),
        object_store.running(tmp_path, buckets=["lake"]) as server,
    ):
        assert server.port != first.port
        assert bytes(obstore.get(store(server), "a").bytes()) == b"content"


@pytest.mark.parametrize("name", ["s3.port", "master.port", "admin.port"])
def test_a_port_that_is_lost_between_choice_and_use_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start, thief = process.start, ExitStack()

    def start_too_late(service: str, command: Sequence[str | Path], **options: Any) -> process.Child:
        [chosen] = [int(str(part).partition("=")[2]) for part in command if str(part).startswith(f"-{name}=")]
        thief.enter_context(socket.create_server((ports.LOOPBACK, chosen)))
        monkeypatch.setattr(process, "start", start)
        return start(service, command, **options)

    monkeypatch.setattr(process, "start", start_too_late)
    with thief, object_store.running(tmp_path, buckets=["lake"]) as server:
        assert process.start is start
        obstore.put(store(server), "a", b"content")


def test_it_listens_on_loopback_only_and_calls_nobody(tmp_path: Path) -> None:
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        connections = psutil.Process(server.child.process.pid).net_connections("inet")
        assert {connection.laddr.ip for connection in connections} == {ports.LOOPBACK}
        assert {connection.raddr.ip for connection in connections if connection.raddr} <= {ports.LOOPBACK}
        listening = {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
        assert listening == {server.port, *server.inner_ports.values()}


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    with object_store.running(tmp_path, buckets=["lake"]) as server:
        with pytest.raises(PermissionDeniedError):
            obstore.put(store(server, secret_access_key="wrong"), "a", b"")
        assert server.credentials.secret_access_key not in " ".join(psutil.Process(server.child.process.pid).cmdline())
    assert stat.S_IMODE((tmp_path / object_store.IDENTITIES).stat().st_mode) == 0o600


def test_a_folder_with_a_comma_and_a_space(tmp_path: Path) -> None:
    with object_store.running(tmp_path / "a, b", buckets=["lake"]) as server:
        obstore.put(store(server), "a", b"content")


def test_a_busy_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusyError, match=rf"port {port} for the S3 server is busy.*--s3-port"):
            object_store.start(tmp_path, buckets=[], port=port)


def test_an_unusable_folder_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("in the way")
    with pytest.raises(ServerError, match=r"S3 server ended .*its log is .*server\.log"):
        object_store.start(tmp_path, buckets=[])
