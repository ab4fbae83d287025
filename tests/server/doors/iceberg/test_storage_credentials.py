"""The credentials of a role: for one table and user, kept for a while, and never for the objects of other tables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import SettingsError
from dagfusion_contract.consolidation import LargeObject, RowGroup
from dagfusion_query.access.grants import ALL, Caller, Grants
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Table
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.event_log.event_log_interface import Consolidation
from dagfusion_query.service_settings import EnvironmentSettings
from dagfusion_query.settings import Settings
from dagfusion_server.doors.iceberg.storage_credentials import (
    NO_ACCESS,
    StorageCredentials,
    session_policy,
    table_place,
)
from dagfusion_server.environments import EnvironmentState
from tests.deploy.policies import allows
from tests.http_servers import answering
from tests.interop.iceberg.reading import Part, record
from tests.query.catalog.folding import EMPTY, written
from tests.server.fake_service import environment

ROLE = "arn:aws:iam::123456789012:role/dagfusion-uat-iceberg-clients"
METADATA = "s3://lake/_iceberg/uat_silver/orders"
ANN, BOB = Caller("ann@example.org", ALL, "http"), Caller("bob", ALL, "http")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8)


@dataclass
class Sts:
    """AWS's STS as far as it is asked here.

    Attributes:
        life: Of the credentials that it gives.
        refuses: Whether it gives any.
        requests: The parameters of those that came.
    """

    life: timedelta = timedelta(hours=1)
    refuses: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def response(self) -> tuple[int, str]:
        if self.refuses:
            return 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        expiry = (datetime.now(UTC) + self.life).strftime("%Y-%m-%dT%H:%M:%SZ")
        number = len(self.requests)
        return 200, (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>secret {number}</SecretAccessKey>"
            f"<SessionToken>token {number}</SessionToken><Expiration>{expiry}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )


@pytest.fixture
def sts() -> Iterator[Sts]:
    served = Sts()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            served.requests.append({name: values[0] for name, values in parse_qs(body).items()})
            status, text = served.response()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    with answering(Endpoint) as served.url:
        yield served


def credentials_of(sts: Sts, gives: str = ROLE, consolidated: frozenset[str] = frozenset()) -> StorageCredentials:
    settings = Settings(
        access_key_id="AKID", secret_access_key="own", region="us-east-2", endpoint_url=sts.url, environment="uat"
    )
    return StorageCredentials(
        EnvironmentConfig(
            "uat",
            settings,
            EnvironmentSettings(
                s3_bucket="lake",
                iceberg_metadata="s3://lake/_iceberg",
                iceberg_credentials=gives,
                iceberg_consolidated=consolidated,
            ),
        )
    )


def state_of(locations: Mapping[str, str]) -> EnvironmentState:
    """Return a catalog with a table of one file for each asset key, such as `Silver/orders`."""
    part = Part(("CA",), {"id": "int64"}, {})
    events = []
    for number, (key, uri) in enumerate(locations.items(), 1):
        described = record(number, part, {"state": "string"})
        events.append(written(described | {"uri": uri}, number, tuple(key.split("/"))))
    return environment("uat", replace(fold(EMPTY, events), generation=9))


def table_of(state: EnvironmentState, name: str = "orders") -> Table:
    (found,) = (table for table in state.snapshot.tables.values() if table.name.table == name)
    return found


ORDERS = {"Silver/orders": "s3://lake/t/Silver/orders/state=CA/data.parquet"}


def test_a_session_may_read_one_table_only(sts: Sts) -> None:
    state = state_of(ORDERS)
    access = credentials_of(sts).access(state, table_of(state), METADATA, ANN)

    assert access.places == ["s3://lake/_iceberg/uat_silver/orders/", "s3://lake/t/Silver/orders/"]
    assert access.config["s3.access-key-id"] == "ASIA1"
    assert (access.config["s3.secret-access-key"], access.config["s3.session-token"]) == ("secret 1", "token 1")
    expires_s = int(access.config["s3.session-token-expires-at-ms"]) / 1000 - datetime.now(UTC).timestamp()
    assert 1800 < expires_s <= 3600
    [request] = sts.requests
    assert (request["RoleArn"], request["RoleSessionName"]) == (ROLE, "dagfusion-ann@example.org")
    policy = json.loads(request["Policy"])
    assert allows([policy], "s3:GetObject", "arn:aws:s3:::lake/t/Silver/orders/state=NV/other.parquet")
    assert allows([policy], "s3:GetObject", "arn:aws:s3:::lake/_iceberg/uat_silver/orders/1.metadata.json")
    for other in ("t/Silver/orders2/a", "t/Silver/ordersa", "_iceberg/uat_silver/returns/a", "t/Silver/returns/a"):
        assert not allows([policy], "s3:GetObject", f"arn:aws:s3:::lake/{other}")
    assert not allows([policy], "s3:PutObject", "arn:aws:s3:::lake/t/Silver/orders/a")
    assert [document["prefix"] for document in access.documents] == access.places


@pytest.mark.usefixtures("heavy")
def test_a_session_serves_one_user_until_it_is_old(sts: Sts) -> None:
    state, credentials = state_of(ORDERS), credentials_of(sts)
    first = credentials.access(state, table_of(state), METADATA, ANN)
    assert credentials.access(state, table_of(state), METADATA, ANN) == first
    assert credentials.access(state, table_of(state), METADATA, BOB) != first
    assert [request["RoleSessionName"] for request in sts.requests] == ["dagfusion-ann@example.org", "dagfusion-bob"]

    sts.life = timedelta(minutes=10)  # less than a client needs
    short = Caller("carol", ALL, "http")
    assert credentials.access(state, table_of(state), METADATA, short) != credentials.access(
        state, table_of(state), METADATA, short
    )


@pytest.mark.parametrize(
    "others",
    [
        {"Silver/returns": "s3://lake/t/Silver/orders/returns/state=CA/data.parquet"},
        {"Silver/orders/late": "s3://other/late/state=CA/data.parquet"},  # its next object may be in this folder
    ],
)
def test_the_folder_of_another_table_is_given_to_nobody_who_may_not_read_it(sts: Sts, others: dict[str, str]) -> None:
    state, credentials = state_of(ORDERS | others), credentials_of(sts)
    ada = Caller("ada", Grants.parse(["uat_silver.orders"]), "http")
    assert credentials.access(state, table_of(state), METADATA, ada) is NO_ACCESS
    assert sts.requests == []
    assert credentials.access(state, table_of(state), METADATA, ANN).places


@pytest.mark.usefixtures("heavy")
def test_large_objects_may_be_read_if_the_catalog_names_them(sts: Sts) -> None:
    folder = "s3://lake/t/_consolidated/Silver/orders/"
    state = consolidated(state_of(ORDERS), ("Silver", "orders"), f"{folder}data-1.parquet")
    assert folder not in credentials_of(sts).access(state, table_of(state), METADATA, ANN).places
    credentials = credentials_of(sts, consolidated=frozenset({"uat_silver.orders"}))
    assert folder in credentials.access(state, table_of(state), METADATA, ANN).places

    others = state_of({**ORDERS, "Silver/returns": "s3://lake/t/Silver/returns/state=CA/data.parquet"})
    state = consolidated(others, ("Silver", "orders"), f"{folder}data-1.parquet")
    shared = consolidated(state, ("Silver", "returns"), f"{folder}data-2.parquet")
    ada = Caller("ada", Grants.parse(["uat_silver.orders"]), "http")
    assert folder in credentials.access(state, table_of(state), METADATA, ada).places
    assert credentials.access(shared, table_of(shared), METADATA, ada) is NO_ACCESS


def consolidated(state: EnvironmentState, key: tuple[str, ...], uri: str) -> EnvironmentState:
    """Add an event of a large object, which holds a materialization that is not current."""
    one = LargeObject(uri, 1000, None, None, "2024-01-15T12:00:00Z", [], {}, (RowGroup(4, 1, (99,), 99),))
    return replace(state, snapshot=fold(state.snapshot, [Consolidation(key, 50, 50_000, "run", (one,))]))


def test_names_of_other_alphabets_are_escaped(sts: Sts) -> None:
    state = state_of({"\u6ce8\u6587": "s3://lake/t/\u6ce8\u6587/state=CA/data.parquet"})
    (table,) = state.snapshot.tables.values()
    access = credentials_of(sts).access(state, table, METADATA, ANN)
    assert sts.requests[0]["Policy"].isascii()
    assert "s3://lake/t/\u6ce8\u6587/" in access.places
    assert "secret" not in repr(access)


def test_local_files_and_no_setting_need_no_credentials(sts: Sts, tmp_path: Path) -> None:
    local = state_of({"Silver/orders": f"file://{tmp_path}/state=CA/data.parquet"})
    assert credentials_of(sts).access(local, table_of(local), METADATA, ANN) is NO_ACCESS
    state = state_of(ORDERS)
    assert credentials_of(sts, "none").access(state, table_of(state), METADATA, ANN) is NO_ACCESS
    assert sts.requests == []


def test_a_role_that_cannot_be_assumed_is_the_operator_s_error(sts: Sts) -> None:
    sts.refuses = True
    state = state_of(ORDERS)
    with pytest.raises(SettingsError, match=f"role {ROLE} .* cannot be assumed: .*AccessDenied.* trust policy"):
        credentials_of(sts).access(state, table_of(state), METADATA, ANN)


@pytest.mark.parametrize(
    ("uris", "place"),
    [
        (["state=CA/data.parquet"], "s3://lake/t/Silver/orders/"),
        (["state=CA/data.parquet", "state=NV/data.parquet"], "s3://lake/t/Silver/orders/"),
        (["data.parquet"], "s3://lake/t/Silver/orders/data.parquet"),
        (["../orders.parquet"], "s3://lake/t/Silver/orders.parquet"),
        (["state=CA/data.parquet", "../late/state=CA/data.parquet"], None),
    ],
)
def test_the_place_of_a_table_is_its_own(uris: list[str], place: str | None) -> None:
    part = Part(("CA",), {"id": "int64"}, {})
    events = [
        written(
            record(number, replace(part, values=(str(number),)), {"state": "string"})
            | {"uri": f"s3://lake/t/Silver/orders/{uri}".replace("orders/../", "")},
            number,
            ("Silver", "orders"),
        )
        for number, uri in enumerate(uris, 1)
    ]
    (table,) = fold(EMPTY, events).tables.values()
    assert table_place(table) == place


@given(folder=st.lists(NAMES, min_size=1, max_size=3), key=st.lists(NAMES, min_size=1, max_size=5))
def test_a_policy_is_for_its_folders_only(folder: list[str], key: list[str]) -> None:
    prefix, path = "/".join(folder) + "/", "/".join(key)
    policy = json.loads(session_policy([f"s3://lake/{prefix}"], "aws-cn"))
    assert allows([policy], "s3:GetObject", f"arn:aws-cn:s3:::lake/{prefix}{path}")
    assert allows([policy], "s3:GetObject", f"arn:aws-cn:s3:::lake/{path}") is path.startswith(prefix)
    assert not allows([policy], "s3:GetObject", f"arn:aws-cn:s3:::lakes/{prefix}{path}")
