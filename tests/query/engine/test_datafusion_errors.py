"""Which column or function an error of DataFusion's is about."""

import pytest

from dagfusion_query.engine.datafusion_errors import named_in


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
