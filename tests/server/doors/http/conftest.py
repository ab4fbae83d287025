"""The HTTP door over a scripted service, on a real socket."""

from collections.abc import Iterator

import httpx
import pytest

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(sql_limit_bytes=1000, client_stall_s=1.0)


@pytest.fixture
def door(service: FakeService, tokens: Tokens, settings: ServiceSettings) -> Iterator[HttpDoor]:
    with serving(service, tokens, settings) as door:
        yield door


@pytest.fixture
def client(door: HttpDoor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=door.url, trust_env=False, timeout=30) as client:
        yield client
