"""The report's section on Iceberg, and the queries in PyIceberg's terms."""

import pytest
from pyiceberg.expressions.parser import parse

from benchmarks import report
from benchmarks.engines.iceberg import row_filter
from benchmarks.workload import DATE_QUERY, FULL_SCAN, IN_AND_RANGE, POINT, STATE_QUERY, Query
from tests.bench.test_report import benchmark, document

TITLE = "## Through the Iceberg catalog"


def test_the_report_shows_each_client_beside_itself_listing_the_folder() -> None:
    found = document(
        iceberg_entries=18_250,
        iceberg_writers_s={"DagFusion": 0.25, "fastavro": 0.5},
        iceberg_load_table_s={"unchanged": 0.002},
    )
    found["benchmarks"] += [
        benchmark(0.02, kind="iceberg", engine="DuckDB ATTACH", query="point"),
        benchmark(9.0, kind="iceberg", engine="DuckDB ATTACH", query="full_scan"),
        benchmark(3.4, kind="warm", engine="DuckDB read_parquet", query="point"),
        benchmark(0.3, kind="iceberg", engine="PyIceberg", query="state"),
        benchmark(0.4, kind="iceberg", engine="Daft read_iceberg", query="point"),
        benchmark(5.0, kind="listing", engine="Daft read_parquet", query="point"),
    ]
    section = report.markdown(report.read(found)).partition(TITLE)[2].partition("\n## ")[0]
    for line in (
        "| client | point | state | date | full scan |",
        "| DuckDB ATTACH | 20 ms |  |  | 9.0 s |\n| beside DuckDB read_parquet | 3.4 s |  |  |  |",
        "| PyIceberg |  | 300 ms |  |  |\n| beside pyarrow.dataset |  |  |  |  |",
        "| Daft read_iceberg | 400 ms |  |  |  |\n| beside Daft read_parquet | 5.0 s |  |  |  |",
        "- **PyIceberg**: ",
        "| unchanged | 2.0 ms |",
        "One manifest of 18,250 entries",
        "| DagFusion | 250 ms | 73,000 |\n| fastavro | 500 ms | 36,500 |",
    ):
        assert line in section
    assert "Polars" not in section


def test_the_report_has_no_section_of_what_was_not_timed() -> None:
    assert TITLE not in report.markdown(report.read(document()))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (FULL_SCAN, "true"),
        (STATE_QUERY, "state IN ('CA')"),
        (DATE_QUERY, "date >= '2024-01-05' AND date <= '2024-01-05'"),
        (POINT, "state IN ('CA') AND date >= '2024-01-05' AND date <= '2024-01-05'"),
        (IN_AND_RANGE, "state IN ('CA', 'NY', 'TX') AND date >= '2024-01-02' AND date <= '2024-01-08'"),
    ],
    ids=lambda value: value.name if isinstance(value, Query) else "",
)
def test_a_query_filters_partition_columns_in_pyiceberg(query: Query, expected: str) -> None:
    assert row_filter(query) == expected
    parse(expected)
