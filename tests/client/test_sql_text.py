"""SQL as text: tokens that DataFusion has too, and names that no character breaks."""

import pytest
from datafusion import SessionContext
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.sql_text import (
    Position,
    TokenKind,
    check_text,
    names,
    position_of,
    qualified,
    quoted,
    tokens,
    unquoted,
    with_select,
)
from dagfusion_server.doors.flight.flight_statements import parameters
from tests.tiers import examples

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
# What holds a question mark, a parameter, a parenthesis and a FROM, none of which mean anything there.
HIDING = (
    "'{}'",
    "'it''s {}'",
    r"E'it\'s {}'",
    "E'''{}'",
    "$$ {} $$",
    "$tag$ $$ {} $tag$",
    '"{}"',
    '"a""{}"',
    "`a``{}`",
    "/* {} */ 1",
    "/* a /* b */ {} */ 1",
    "-- {}\n 1",
)
INSIDE = "? $x ) ( FROM t"


@pytest.mark.parametrize("hiding", HIDING)
def test_what_stands_in_text_and_comments_is_not_read(hiding: str) -> None:
    inside = hiding.format(INSIDE)
    found = [token for token in tokens(f"SELECT {inside}, a.b") if token.kind is not TokenKind.comment]

    assert [token.text for token in found][-4:] == [",", "a", ".", "b"]
    assert not {"?", "$x", "(", "FROM"} & {token.text for token in found}
    assert parameters(f"SELECT {inside}, ?").sql == f"SELECT {inside}, $1"
    assert parameters(f"SELECT {inside}").names == ()
    assert position_of(f"SELECT {inside},\n  missing FROM x", "missing") == (2 + inside.count("\n"), 3)
    assert with_select(f"WITH a AS (SELECT {inside}) FROM a") == f"WITH a AS (SELECT {inside}) SELECT * FROM a"


@pytest.mark.parametrize("hiding", [hiding for hiding in HIDING if hiding[0] not in '"`'])
def test_the_engine_reads_the_same_tokens(hiding: str) -> None:
    (row,) = SessionContext().sql(f"SELECT {hiding.format(INSIDE)} AS a, 2 AS b").to_pylist()

    assert row["b"] == 2


@settings(max_examples=examples(30))
@given(NAMES)
def test_a_quoted_name_is_that_name_for_the_engine(name: str) -> None:
    (token,) = tokens(quoted(name))

    assert (token.kind, token.name, unquoted(token.text)) == (TokenKind.quoted, name, name)
    assert SessionContext().sql(f"SELECT 1 AS {quoted(name)}").schema().names == [name]


@given(st.text(st.sampled_from("ab1 '\"`$-*/\n\\?eE.("), max_size=30))
def test_tokens_leave_nothing_out(sql: str) -> None:
    end = 0
    for token in tokens(sql):
        assert sql[end : token.start].isspace() or end == token.start
        assert sql.startswith(token.text, token.start)
        end = token.start + len(token.text)
    assert not sql[end:].strip()


@pytest.mark.parametrize(
    ("sql", "name", "expected"),
    [
        ("select naem from t", "naem", (1, 8)),
        ("select 'naem', -- naem\n/* naem */ $$naem$$,\n  NAEM from t", "naem", (3, 3)),
        ("select npi as nip from t\nwhere nip = 1", "nip", (2, 7)),
        ("select o.nam, nam from t o", "o.nam", (1, 8)),
        ("select o.nam, nam from t o", "nam", (1, 15)),
        ('select "Nam", nam from t', '"Nam"', (1, 8)),
        ('select "a""b. c" from t', '"a""b. c"', (1, 8)),
        ('select * from "s" . "raw Org"', "s.raw Org", (1, 15)),
        ("select 1 from s.nowhere where s.nowhere.x = 1", "s.nowhere", (1, 15)),
        ("select straße, größe from t", "größe", (1, 16)),
        ("select *", "nothing", None),
        ("select 'never ended nam", "nam", None),
        ("", "nam", None),
    ],
)
def test_position(sql: str, name: str, expected: tuple[int, int] | None) -> None:
    assert position_of(sql, name) == (expected and Position(*expected))


def test_names() -> None:
    assert names('SELECT "A""b", f(`C`) FROM S."T" -- none\n WHERE x = \'none\' AND y = $none') == {
        *("select", "from", "where", "and"),
        *('A"b', "f", "C", "s", "T", "x", "y"),
    }


def test_names_of_several_parts() -> None:
    assert qualified(("a", 'b"c')) == '"a"."b""c"'


def test_text_that_can_be_sent() -> None:
    check_text("SELECT 'ü/日本'")
