"""A caller who writes a guess into a statement does not learn from the answer whether the guess is right."""

import re
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_server.worker.messages import HEADER, Configuration, Kind, Message
from dagfusion_server.worker.statements import Statements
from tests.query.engine.conftest import Lake
from tests.query.test_redact import SETTINGS
from tests.tiers import examples

pytestmark = pytest.mark.usefixtures("heavy")
TABLE = "local_silver_tax_id.orgs"
ENDPOINT = str(SETTINGS.endpoint_url).rstrip("/")

Ask = Callable[[str, str], str]

# Where a caller may write a guess, or what computes one; {0} and {1} are its halves, {2} is the whole.
WORDS = (
    "SELECT '{2}'::int",
    "SELECT ('{0}' || '{1}')::int",
    "SELECT concat('{0}', '{1}')::date FROM {table}",
    "SELECT reverse(reverse('{2}'))::int FROM {table}",
    "SELECT name::int FROM (SELECT '{2}' AS name FROM {table})",
    'SELECT "{2}" FROM {table}',
    'SELECT t."{2}" FROM {table} t',
    'SELECT * FROM "{2}"',
    'SELECT * FROM local_silver_tax_id."{2}"',
    'SELECT "{2}"(1)',
    "SELECT '{2}",
    "SELECT 1 '{2}' 2",
    "SELECT arrow_cast(1, '{2}')",
    "SELECT id + named_struct('{2}', 1) FROM {table}",
    'SELECT id AS "{2}", id AS "{2}" FROM {table}',
    "SELECT to_timestamp('{2}')",
    "SELECT 1 AS \"{2}\", interval '{2}'",
    "SELECT 'Object Store error: Generic S3 error {2}'::int",
    "SELECT 'file_groups={{1 group: [[{2}/x.parquet]]}}'::int",
    "SELECT 'file:///{2}/x.parquet'::int",
    "SELECT id FROM {table} WHERE name = '{2}'",
    "SELECT id AS \"{2}\" FROM {table} WHERE name <> '{0}' || '{1}'",
    "SELECT id FROM {table} WHERE name = 'file_groups={{1 group: [[{2}/x.parquet]]}}'",
    "SELECT id FROM {table} WHERE name = 'x{{partition=0, filename={2}/x.parquet}}=1'",
    "SELECT id FROM {table} WHERE name = 'Error performing GET {2}/x'",
    "SELECT count(*) AS \"{2}\" FROM {table} GROUP BY name HAVING max(name) <> '{2}'",
    "SELECT '{2}' AS a FROM {table} WHERE id = 1 UNION ALL SELECT '{2}'",
    "SELECT abs(*), '{2}' FROM {table}",
)
PREFIXES = ("", "EXPLAIN ", "EXPLAIN VERBOSE ", "EXPLAIN ANALYZE ", "EXPLAIN ANALYZE VERBOSE ")
_MEASURED = re.compile(r"NOT RECORDED|\d[\d.,:]*( ?([mnµ]?s|[KMGT]?i?B)\b)?")

# What an error says of names that are like an unknown one, or if there is none.
_NEAREST = re.compile(
    r"[Dd]id you mean [^?]*\?|`SELECT \* FROM information_schema\.tables` lists the tables|unknown token: \S*"
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    made = Lake(tmp_path_factory.mktemp("lake"))
    rows = pa.table({"id": pa.array(range(10)), "name": [f"name {i}" for i in range(10)]})
    for state in ("CA", "NY"):
        made.write(("Silver", "TaxID", "orgs"), rows, {"state": pa.scalar(state)}, folder=f"state={state}")
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def ask(lake: Lake) -> Iterator[Ask]:
    """Ask a worker that knows the secrets."""
    configuration = Configuration(
        folders=["/var/lib/dagfusion"], memory_bytes=1 << 30, settings={"local": SETTINGS}, environments={}
    )
    statements = Statements(configuration, lambda _: None)
    # This process has threads of other tests, too, so it may never be at rest.
    patched = pytest.MonkeyPatch()
    patched.setattr("dagfusion_server.worker.statements.comes_to_rest", lambda _: True)
    statements._engine.snapshot = lambda *_: (lake.snapshot, {})  # type: ignore[method-assign]  # not a mapped one

    def answer(sql: str, mode: str) -> str:
        statement = {"id": "1", "sql": sql, "mode": mode, "format": "json", "wanted_rows": None}
        limits = {"limit_rows": 10**6, "limit_bytes": 10**9, "environments": {}, "grants": ["*"]}
        sent: list[Any] = []
        statements.run(Message(Kind.statement, statement | limits), lambda *messages: sent.extend(messages))
        return said([b"".join(map(bytes, message)) for message in sent])

    yield answer
    patched.undo()
    statements._engine.close()


def said(messages: Sequence[bytes]) -> str:
    """Return everything that a worker said but how long it took, and where it cut the result into messages."""
    texts, result = [], b""
    for message in messages:
        kind, rest = message[:1], message[HEADER.size :]
        if kind == Kind.failed.value:
            texts.append(str(orjson.loads(rest)))
        elif kind == Kind.data.value:
            result += rest
        elif kind == Kind.end.value:
            texts.append(str(orjson.loads(rest).get("explanation")))
    return "\n".join([result.decode("utf-8", "replace"), *texts])


@st.composite
def shaped(draw: st.DrawFn, secret: str) -> str:
    """Draw a wrong guess with the form of a secret: each letter and digit may be another."""
    wrong = "".join(_other(draw, letter) for letter in secret)
    return wrong if wrong != secret else _other_letter(secret)


def _other(draw: st.DrawFn, letter: str) -> str:
    for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if letter in kind:
            return draw(st.sampled_from(kind))
    return letter


def _other_letter(secret: str) -> str:
    return secret.replace(secret[-1], "b" if secret[-1] == "a" else "a")


@given(data=st.data())
@settings(max_examples=examples(150), deadline=None)
def test_the_answer_to_a_guess_does_not_say_whether_it_is_right(ask: Ask, lake: Lake, data: st.DataObject) -> None:
    folder = str(lake.root / "Silver" / "TaxID" / "orgs")
    secrets = [ENDPOINT, ENDPOINT.removeprefix("http://"), SETTINGS.access_key_id, SETTINGS.secret_access_key]
    secret = data.draw(st.sampled_from([*map(str, secrets), folder, folder.strip("/"), "/var/lib/dagfusion"]))
    wrong = data.draw(shaped(secret))
    words, prefix = data.draw(st.sampled_from(WORDS)), data.draw(st.sampled_from(PREFIXES))
    mode = data.draw(st.sampled_from(["run", "explain"]))
    half = len(secret) // 2

    right_said, wrong_said = (
        ask(prefix + words.format(guess[:half], guess[half:], guess, table=TABLE), mode) for guess in (secret, wrong)
    )

    assert comparable(right_said, secret) == comparable(wrong_said, wrong)
    assert "[key]" not in right_said
    assert "[endpoint]" not in right_said


def comparable(text: str, guess: str) -> frozenset[str]:
    """Return an answer without the guess, names that are like it, and what EXPLAIN ANALYZE has measured."""
    plain = _MEASURED.sub("_", _NEAREST.sub("", text.replace(guess, "<guess>")))
    return frozenset(re.split(r"[\s,]+", plain))  # metrics come in any number and order
