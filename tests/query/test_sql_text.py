"""SQL as text: tokens that DataFusion has too, and names that no character breaks."""

import pytest
from datafusion import SessionContext
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.doors.flight.flight_statements import parameters
from dagfusion_query.engine.datafusion_errors import position_of
from dagfusion_query.sql_text import TokenKind, check_text, qualified, quoted, tokens, unquoted, with_select
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


def test_names_of_several_parts() -> None:
    assert qualified(("a", 'b"c')) == '"a"."b""c"'


def test_text_that_can_be_sent() -> None:
    check_text("SELECT 'ü/日本'")
