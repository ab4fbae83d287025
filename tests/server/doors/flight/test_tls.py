"""The door over TLS."""

from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pytest
import trustme
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from dagfusion_client.errors import SettingsError
from dagfusion_server.doors.flight.flight_door import FlightDoor
from tests.server.doors.flight.conftest import ORDERS, Doors, query
from tests.server.fake_service import FakeService


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return {"tls_certificate": str(certificate), "tls_key": str(key)}


def test_clients_that_trust_the_authority(
    doors: Doors, service: FakeService, authority: trustme.CA, files: dict[str, str]
) -> None:
    door = doors.open(service, anonymous="never", **files)
    root, secret = authority.cert_pem.bytes().decode(), doors.tokens.create("ann", ["*"])
    options = {"username": "ann", "password": secret, DatabaseOptions.TLS_ROOT_CERTS.value: root}
    address = f"grpc+tls://localhost:{door.port}"
    with flight_sql.connect(address, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.execute("select * from orders").fetch_arrow_table() == ORDERS
    with flight.connect(address, tls_root_certs=root.encode()) as client:
        pair = client.authenticate_basic_token(b"ann", secret.encode())
        assert query(client, "select * from orders", flight.FlightCallOptions(headers=[pair])) == ORDERS


def test_clients_that_do_not(doors: Doors, service: FakeService, files: dict[str, str]) -> None:
    door = doors.open(service, **files)
    for address, root in ((f"grpc+tls://localhost:{door.port}", trustme.CA()), (f"grpc://localhost:{door.port}", None)):
        options = {} if root is None else {"tls_root_certs": root.cert_pem.bytes()}
        with flight.connect(address, **options) as client, pytest.raises(flight.FlightUnavailableError):
            query(client, "select * from orders", flight.FlightCallOptions(timeout=30.0))


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key"])
def test_files_that_are_not_there(
    doors: Doors, service: FakeService, files: dict[str, str], tmp_path: Path, missing: str
) -> None:
    with pytest.raises(SettingsError, match=f"DAGFUSION_{missing.upper()} must be a file that can be read"):
        doors.open(service, **{**files, missing: str(tmp_path / "nothing")})


def test_files_that_do_not_belong_together(
    doors: Doors, service: FakeService, files: dict[str, str], tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(SettingsError, match="cannot be listened on"):
        doors.open(service, **{**files, "tls_key": str(stranger)})


def test_a_port_that_is_taken(doors: Doors, door: FlightDoor) -> None:
    with pytest.raises(SettingsError, match="DAGFUSION_FLIGHT_ADDRESS"):
        doors.open(FakeService(), flight_address=f"127.0.0.1:{door.port}")
    with pytest.raises(SettingsError, match="DAGFUSION_FLIGHT_ADDRESS must be host:port"):
        doors.open(FakeService(), flight_address="somewhere")
