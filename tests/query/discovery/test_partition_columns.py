"""Partition columns and values of what other IO managers wrote."""

import pytest

from dagfusion_query.discovery.footer import Columns
from dagfusion_query.discovery.foreign_records import event_columns, hive_segments


@pytest.mark.parametrize(
    ("partition_key", "dimensions", "key", "expected"),
    [
        (None, (), "a/b.parquet", ()),
        (None, (), "state=CA/b.parquet", ()),
        ("2024-01-01", (), "days/2024-01-01.parquet", (("partition_key", "2024-01-01"),)),
        ("2024-01-01", (), "days/date=2024-01-01/x.parquet", (("date", "2024-01-01"),)),
        ("2024-01-01", (), "env=2024-01-01/date=2024-01-01/x.parquet", (("date", "2024-01-01"),)),
        ("2024-01-01", (), "days/date=20240101/x.parquet", (("partition_key", "2024-01-01"),)),
        ("a b", (), "x/name=a%20b/x.parquet", (("name", "a b"),)),
        (
            "2024-01-01|CA",
            (("date", "2024-01-01"), ("state", "CA")),
            "both/2024-01-01/CA.parquet",
            (("date", "2024-01-01"), ("state", "CA")),
        ),
        (
            "2024-01-01|CA",
            (("date", "2024-01-01"), ("state", "CA")),
            "both/state=CA/date=2024-01-01/x.parquet",
            (("state", "CA"), ("date", "2024-01-01")),
        ),
        ("2024-01-01|CA", (), "state=CA/date=2024-01-01/x.parquet", (("state", "CA"), ("date", "2024-01-01"))),
        ("CA|2024-01-01", (), "state=CA/date=2024-01-01/x.parquet", (("partition_key", "CA|2024-01-01"),)),
        ("2024-01-01|CA", (), "state=CA/x.parquet", (("partition_key", "2024-01-01|CA"),)),
        ("a|b", (), "x/kind=a|b/x.parquet", (("kind", "a|b"),)),
        ("x|x", (), "a=x/b=x/f.parquet", (("a", "x"), ("b", "x"))),
    ],
)
def test_the_event_tells_the_values(
    partition_key: str | None, dimensions: tuple[tuple[str, str], ...], key: str, expected: Columns
) -> None:
    assert event_columns(partition_key, dimensions, key) == expected


def test_hive_folders_name_columns() -> None:
    key = "lake/a=1/b=__HIVE_DEFAULT_PARTITION__/c=x%2Fy/d=/=e/plain/f=g.parquet"
    assert hive_segments(key) == (("a", "1"), ("b", None), ("c", "x/y"), ("d", ""))
