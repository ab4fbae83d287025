"""A client of the HTTP door over a scripted service."""

from collections.abc import Iterator

import pytest

from dagfusion_client.http_client import HttpConnection
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.deployments import *  # noqa: F403
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService


@pytest.fixture
def door(service: FakeService, tokens: Tokens) -> Iterator[HttpDoor]:
    with serving(service, tokens, ServiceSettings()) as door:
        yield door


@pytest.fixture
def connection(door: HttpDoor) -> Iterator[HttpConnection]:
    with HttpConnection(door.url) as connection:
        yield connection
