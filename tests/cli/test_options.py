"""Parameters as they are typed."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_cli.options import read_parameters, read_value
from dagfusion_client.errors import ParameterError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 2.0**63),
        ("1.50", 1.5),
        ("-1e3", -1000.0),
        ("01234", "01234"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("True", True),
        ("false", False),
        ("NULL", None),
        ("", ""),
        ("2024-01-05", date(2024, 1, 5)),
        ("2024-02-30", "2024-02-30"),
        ("20240105", 20240105),
        ("2024-01-05T10:30", datetime(2024, 1, 5, 10, 30)),  # noqa: DTZ001  # it has no zone
        ("2024-01-05 10:30:00.5Z", datetime(2024, 1, 5, 10, 30, 0, 500_000, tzinfo=UTC)),
        ("CA", "CA"),
        ("'7'", "7"),
        ("'it''s'", "it's"),
        ("'", "'"),
        ("''", ""),
    ],
)
def test_a_value_has_the_type_that_it_looks_like(text: str, value: Any) -> None:
    read = read_value(text)

    assert (type(read), read) == (type(value), value)


@given(st.text())
def test_any_text_can_be_given(text: str) -> None:
    quoted = text.replace("'", "''")

    assert read_value(f"'{quoted}'") == text
    assert read_parameters([f"a='{quoted}'"]) == {"a": text}
    assert read_parameters([f"1='{quoted}'"]) == [text]


@given(
    st.lists(
        st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(), min_size=1
    )
)
def test_values_come_back_as_they_are(values: list[Any]) -> None:
    read = read_parameters([str(value).lower() for value in values])

    assert read == values
    assert [type(value) for value in read or ()] == [type(value) for value in values]


def test_names_and_positions() -> None:
    assert read_parameters([]) is None
    assert read_parameters(["state=CA", "$day=2024-01-05"]) == {"state": "CA", "day": date(2024, 1, 5)}
    assert read_parameters(["2=b", "1=a"]) == ["a", "b"]
    assert read_parameters(["https://x/?a=b"]) == ["https://x/?a=b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a=1", "a=2"], r"\$a is given twice"),
        (["2=x", "y"], r"\$2 is given twice"),
        (["a=1", "2"], r"got \$a and \$2"),
        (["1=a", "3=c"], r"\$2 is missing: got \$1, \$3"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        read_parameters(given)
