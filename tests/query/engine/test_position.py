"""Where a statement names what is wrong with it."""

import pytest

from dagfusion_query.engine.position import Position, named_in, position_of


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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("No field named naem.\nValid fields are t.name.", "naem"),
        ("No field named o.nam. Did you mean 'o.name'?", "o.nam"),
        ('No field named "a. b"."C d".', '"a. b"."C d"'),
        ("Invalid function 'foo'.\nDid you mean 'cot'?", "foo"),
        ("Ambiguous reference to unqualified field npi", "npi"),
        ("Internal error: Function 'sum' failed to match any signature", None),
    ],
)
def test_named(text: str, name: str | None) -> None:
    assert named_in(text) == name
