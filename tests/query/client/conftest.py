"""A client of the HTTP door over a scripted service."""

from collections.abc import Iterator

import pytest

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.client.http_client import HttpConnection
from dagfusion_query.doors.http.http_door import HttpDoor
from dagfusion_query.service_settings import ServiceSettings
from tests.query.doors.http.serving import serving
from tests.query.fake_service import FakeService


@pytest.fixture
def door(service: FakeService, tokens: Tokens) -> Iterator[HttpDoor]:
    with serving(service, tokens, ServiceSettings()) as door:
        yield door


@pytest.fixture
def connection(door: HttpDoor) -> Iterator[HttpConnection]:
    with HttpConnection(door.url) as connection:
        yield connection
