"""Access tokens: who gets in, who no longer does, and what is in the file."""

import json
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import SettingsError, UnauthenticatedError
from dagfusion_query.access.authentication import Tokens

SOON = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


@pytest.fixture
def tokens(path: Path) -> Tokens:
    return Tokens(path)


def test_a_secret_lets_its_user_in(tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat", "prod_silver.*"], datetime.now(UTC) + SOON)

    token = tokens.authenticate(secret)

    assert (token.name, token.grants) == ("ann", ("prod_silver.*", "uat"))
    assert secret.startswith("dft_")
    assert len(secret.rsplit("_", 1)) == 2


def test_the_file_keeps_no_secret_and_is_its_owners(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"])

    assert secret not in path.read_text()
    assert secret.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"),
        lambda s: s + "A",
        lambda s: s[:-1],
        lambda s: s.replace("dft_", "DFT_"),
        lambda s: f" {s}",
        lambda s: s[:0],
        lambda s: s.split("_", 2)[1],
        lambda s: s + "\udcff",
    ],
)
def test_what_is_not_the_secret_does_not(tokens: Tokens, change: Callable[[str], str]) -> None:
    secret = tokens.create("ann", ["*"])

    with pytest.raises(UnauthenticatedError, match="not one of this service"):
        tokens.authenticate(change(secret))


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        Tokens(Path("/nowhere/tokens.json")).authenticate(text)


def test_an_expired_token_is_told_so_by_its_secret_only(tokens: Tokens) -> None:
    secret = tokens.create("ann", ["*"], datetime.now(UTC) - SOON)

    with pytest.raises(UnauthenticatedError, match="ann expired at"):
        tokens.authenticate(secret)
    with pytest.raises(UnauthenticatedError, match="not one of this service"):
        tokens.authenticate(secret[:-2] + "xx")


def test_revoking_ends_a_token_in_a_running_service(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"])
    running = Tokens(path)
    running.authenticate(secret)

    tokens.revoke("ann")

    with pytest.raises(UnauthenticatedError, match="ann was revoked"):
        running.authenticate(secret)


def test_a_token_is_revoked_by_its_id_too(tokens: Tokens) -> None:
    secret = tokens.create("ann", ["*"])
    (token,) = tokens.list()

    assert tokens.revoke(token.id).name == "ann"
    with pytest.raises(UnauthenticatedError):
        tokens.authenticate(secret)
    with pytest.raises(SettingsError, match="no active token 'ann'"):
        tokens.revoke("ann")


def test_a_name_is_free_again_when_its_token_is_over(tokens: Tokens) -> None:
    tokens.create("ann", ["*"])
    with pytest.raises(SettingsError, match="a token ann already"):
        tokens.create("ann", ["uat"])

    tokens.revoke("ann")
    second = tokens.create("ann", ["uat"])

    assert tokens.authenticate(second).grants == ("uat",)
    assert [token.revoked is None for token in tokens.list()] == [False, True]


@pytest.mark.parametrize("name", ["", "anonymous", "a b", "../x", "x" * 65, "-x", "a\nb", "ü"])
def test_a_name_is_checked(tokens: Tokens, name: str) -> None:
    with pytest.raises(SettingsError, match="a token's name must be"):
        tokens.create(name, ["*"])


@pytest.mark.parametrize("grants", [[], ["a.b.c"], ["uat."], [""], ["*.x"]])
def test_grants_are_checked(tokens: Tokens, grants: list[str]) -> None:
    with pytest.raises(SettingsError, match="grant"):
        tokens.create("ann", grants)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 1, "tokens": [{}]}',
        '{"version": 1, "tokens": {"a": 1}}',
        '{"version": 1, "tokens": [{"id": 1, "name": "a", "sha256": "", "grants": [], "created": ""}]}',
        "\x00",
    ],
)
def test_a_damaged_file_lets_nobody_in(tokens: Tokens, path: Path, content: str) -> None:
    secret = tokens.create("ann", ["*"])
    path.write_text(content)

    with pytest.raises(SettingsError, match=r"tokens\.json is damaged: restore it"):
        tokens.authenticate(secret)
    with pytest.raises(SettingsError, match="is damaged"):
        tokens.create("bob", ["*"])
    assert path.read_text() == content


def test_a_token_without_a_time_zone_is_damage(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"])
    document = json.loads(path.read_text())
    document["tokens"][0]["expires"] = "2999-01-01T00:00:00"
    path.write_text(json.dumps(document))

    with pytest.raises(SettingsError, match="is damaged"):
        tokens.authenticate(secret)


@pytest.mark.parametrize("value", [1, "true", None])
def test_an_internal_token_is_said_by_a_boolean(tokens: Tokens, path: Path, value: object) -> None:
    secret = tokens.create("ann", ["*"])
    document = json.loads(path.read_text())
    document["tokens"][0]["is_internal"] = value
    path.write_text(json.dumps(document))

    with pytest.raises(SettingsError, match="is damaged"):
        tokens.authenticate(secret)


def test_a_file_of_an_older_version_has_no_internal_token(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"], is_internal=True)
    document = json.loads(path.read_text())
    del document["tokens"][0]["is_internal"]
    path.write_text(json.dumps(document))

    assert not tokens.authenticate(secret).is_internal
    assert tokens.exist()


def test_another_version_is_refused(tokens: Tokens, path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"version": 2, "tokens": []}')

    with pytest.raises(SettingsError, match="has version 2, and this reader knows 1"):
        tokens.list()


def test_a_file_that_others_may_write_is_refused(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"])
    path.chmod(0o666)

    with pytest.raises(SettingsError, match="can be written by others: chmod 600"):
        tokens.authenticate(secret)


def test_a_removed_file_ends_every_token(tokens: Tokens, path: Path) -> None:
    secret = tokens.create("ann", ["*"])
    path.unlink()

    with pytest.raises(UnauthenticatedError):
        tokens.authenticate(secret)
    assert tokens.list() == []


def test_many_writers_lose_nothing_and_readers_never_see_half_a_file(path: Path) -> None:
    secret = Tokens(path).create("first", ["*"])
    over = threading.Event()
    seen: list[str] = []

    def read() -> None:
        reader = Tokens(path)
        while not over.is_set():
            seen.append(reader.authenticate(secret).name)

    with ThreadPoolExecutor(5) as threads:
        reading = threads.submit(read)
        list(threads.map(lambda n: Tokens(path).create(f"user-{n}", ["uat"]), range(20)))
        over.set()
        reading.result()

    assert set(seen) == {"first"}
    assert {token.name for token in Tokens(path).list()} == {"first", *(f"user-{n}" for n in range(20))}
    assert [entry for entry in path.parent.iterdir() if entry.name.startswith(".")] == []
