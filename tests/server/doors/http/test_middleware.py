"""Who gets in: tokens, proxies, host names, other sites' pages, and what every answer has."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx
import pytest

from dagfusion_client.errors import ServiceUnavailableError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor, api_routes
from dagfusion_server.service.service import Service
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService

GUARDED = [
    ("POST", "/v1/sql"),
    ("POST", "/v1/explain"),
    ("GET", "/v1/queries"),
    ("GET", "/v1/queries/q0"),
    ("DELETE", "/v1/queries/q0"),
    ("GET", "/v1/tables"),
    ("GET", "/v1/tables/a/b"),
    ("GET", "/v1/tables/a/b/partitions"),
    ("GET", "/v1/tables/a/b/history"),
    ("GET", "/v1/tables/a/b/generations"),
    ("GET", "/v1/tables/a/b/diff"),
    ("GET", "/v1/session"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
OPEN = [("GET", "/healthz"), ("GET", "/readyz")]
PROXY_HEADERS = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "x-forwarded-host", "X-Envoy-External-Address"]


@pytest.fixture
def strict(service: FakeService, tokens: Tokens, settings: ServiceSettings) -> Iterator[HttpDoor]:
    with serving(service, tokens, replace(settings, anonymous="never")) as door:
        yield door


def ask(
    door: HttpDoor, method: str = "GET", path: str = "/v1/session", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    return httpx.request(method, f"{door.url}{path}", headers=headers or {}, trust_env=False)


def test_every_endpoint_is_one_of_these(service: FakeService, settings: ServiceSettings) -> None:
    templates = {("/v1/tables/{schema}/{table}"): "/v1/tables/a/b", "/v1/queries/{id}": "/v1/queries/q0"}
    known = {path for _, path in (*GUARDED, *OPEN)}
    routes = [str(getattr(route, "path", "")) for route in api_routes(cast("Service", service), settings)]
    for template, example in templates.items():
        routes = [route.replace(template, example) for route in routes]

    assert set(routes) == known


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_token_there_is_nothing(strict: HttpDoor, service: FakeService, method: str, path: str) -> None:
    answer = ask(strict, method, path)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.asked == []


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_probes_need_none(strict: HttpDoor, method: str, path: str) -> None:
    assert ask(strict, method, path).status_code == 200


def test_readiness_tells_strangers_no_reason(strict: HttpDoor, service: FakeService) -> None:
    service.problem = ServiceUnavailableError("no worker is ready: /opt/secret")

    answer = ask(strict, path="/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert "secret" not in answer.text


def test_a_token_opens(strict: HttpDoor, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat"])

    answer = ask(strict, headers={"Authorization": f"bearer {secret}"})

    assert answer.json().items() >= {"user": "ann", "anonymous": False, "everything": False}.items()


def test_revoking_closes_at_once(strict: HttpDoor, tokens: Tokens) -> None:
    headers = {"Authorization": f"Bearer {tokens.create('ann', ['uat'])}"}
    assert ask(strict, headers=headers).status_code == 200

    tokens.revoke("ann")

    assert ask(strict, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer x", "Basic YTpi", "Bearer dft_000000000000_" + "A" * 43, "dft_x", ""]
)
def test_a_wrong_token_does_not_open_even_where_none_is_needed(door: HttpDoor, authorization: str) -> None:
    assert ask(door, headers={"Authorization": authorization}).status_code == 401


def test_an_expired_token_does_not_open(door: HttpDoor, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["*"], datetime.now(UTC) - timedelta(seconds=1))

    answer = ask(door, headers={"Authorization": f"Bearer {secret}"})

    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


def test_damaged_tokens_let_nobody_in(door: HttpDoor, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["*"])
    tokens.path.write_text("{")

    for headers in ({"Authorization": f"Bearer {secret}"}, {}):
        answer = ask(door, headers=headers)

        assert answer.status_code == 503
        assert str(tokens.path) not in answer.text


@pytest.mark.parametrize("anonymous", ["auto", "loopback"])
@pytest.mark.parametrize("header", PROXY_HEADERS)
def test_what_came_through_a_proxy_is_not_from_here(
    service: FakeService, tokens: Tokens, settings: ServiceSettings, header: str, anonymous: str
) -> None:
    with serving(service, tokens, replace(settings, anonymous=anonymous)) as door:
        assert ask(door, headers={header: "127.0.0.1"}).status_code == 401


def test_the_first_token_closes_the_door_for_good(door: HttpDoor, tokens: Tokens) -> None:
    guarded = [("GET", "/v1/session"), ("GET", "/metrics"), ("GET", "/v1/tables"), ("POST", "/v1/sql")]

    def refused() -> set[tuple[str, str]]:
        return {known for known in guarded if ask(door, *known).status_code == 401}

    assert refused() == set()
    secret = tokens.create("ann", ["*"])
    assert refused() == set(guarded)
    assert ask(door, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert {ask(door, *known).status_code for known in OPEN} == {200}
    tokens.revoke("ann")
    assert refused() == set(guarded)
    tokens.path.unlink()
    assert refused() == set(guarded)


def test_loopback_is_a_choice_that_outlives_tokens(
    service: FakeService, tokens: Tokens, settings: ServiceSettings
) -> None:
    tokens.create("ann", ["uat"])
    with serving(service, tokens, replace(settings, anonymous="loopback")) as door:
        assert ask(door).json()["everything"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "x.localhost", "localhost."]
)
def test_names_of_this_machine(door: HttpDoor, host: str) -> None:
    assert ask(door, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("anonymous", ["auto", "loopback"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.1, evil.example",
        "localhost:80@evil.example",
        "10.1.2.3",
        "[2001:db8::1]:8080",
        "box",
        "",
        "[",
        "a@b",
    ],
)
def test_a_name_that_another_gave_this_address_is_refused(
    service: FakeService, tokens: Tokens, settings: ServiceSettings, host: str, anonymous: str
) -> None:
    with serving(service, tokens, replace(settings, anonymous=anonymous)) as door:
        assert ask(door, headers={"Host": host}).status_code == 403

        secret = tokens.create("ann", ["*"])
        assert ask(door, headers={"Host": host, "Authorization": f"Bearer {secret}"}).status_code == 200


def test_open_to_all_means_more_names(service: FakeService, tokens: Tokens, settings: ServiceSettings) -> None:
    with serving(service, tokens, replace(settings, anonymous="always")) as door:
        assert ask(door, headers={"Host": "dagfusion:8080"}).status_code == 200
        assert ask(door, headers={"Host": "10.1.2.3"}).status_code == 200
        assert ask(door, headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_pages_of_other_sites_get_nothing(
    door: HttpDoor, tokens: Tokens, service: FakeService, headers: dict[str, str]
) -> None:
    token = {"Authorization": f"Bearer {tokens.create('ann', ['*'])}"}

    for known in ({}, token):
        answer = ask(door, "POST", "/v1/sql", {**headers, **known})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
    assert service.asked == []


def test_its_own_page_gets_in(door: HttpDoor) -> None:
    headers = {"Origin": door.url, "Sec-Fetch-Site": "same-origin"}

    assert ask(door, headers=headers).status_code == 200
    assert ask(door, headers={"Sec-Fetch-Site": "none"}).status_code == 200
    assert ask(door, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_a_preflight_is_not_answered_kindly(door: HttpDoor) -> None:
    answer = ask(door, "OPTIONS", "/v1/sql", {"Origin": "https://evil.example"})

    assert answer.status_code == 403


def test_a_header_that_may_come_once(door: HttpDoor) -> None:
    answer = httpx.get(
        f"{door.url}/v1/session",
        headers=[("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        trust_env=False,
    )

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v1/nothing", "/V1/sql", "//v1/sql", "/v1/sql/", "/v1/../v1/sql", "/%2e%2e/etc"]
)
def test_what_is_not_there(door: HttpDoor, path: str) -> None:
    answer = ask(door, path=path)

    assert answer.status_code in {404, 405}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in {"not_found", "method_not_allowed"}


def test_a_method_that_does_nothing(door: HttpDoor) -> None:
    answer = ask(door, "DELETE", "/v1/sql")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(("method", "path"), [*OPEN, ("GET", "/v1/session"), ("GET", "/nothing"), ("POST", "/v1/sql")])
def test_every_answer_has_the_headers_against_misuse(door: HttpDoor, method: str, path: str) -> None:
    headers = ask(door, method, path).headers

    assert headers["content-security-policy"].startswith("default-src 'self'; object-src 'none'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_metrics_are_for_who_may_read_everything(door: HttpDoor, tokens: Tokens) -> None:
    assert ask(door, path="/metrics").text == "dagfusion_queries_total 1\n"

    some, everything = tokens.create("ann", ["uat"]), tokens.create("root", ["*"])
    assert ask(door, path="/metrics").status_code == 401
    assert ask(door, path="/metrics", headers={"Authorization": f"Bearer {everything}"}).status_code == 200
    assert ask(door, path="/metrics", headers={"Authorization": f"Bearer {some}"}).status_code == 403
