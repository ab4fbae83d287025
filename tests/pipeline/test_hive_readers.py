"""What others read from a folder that our layout and encoder wrote: the same rows and the same partition values."""

import datetime as dt
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagfusion_contract.layout import HIVE_NULL, hive_key
from dagfusion_contract.values import partition_entry
from dagfusion_pipeline.parquet import Compression, ParquetEncoder, decode
from tests.tiers import examples

Row = tuple[str | None, str | None, int]

ASSET = ["Silver", "orgs"]
# A folder's name may have 255 bytes on a local disk; S3 has no such limit.
# DuckDB takes a folder's NULL, in any case, for no value; Hive and the others take it for the word.
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=15).filter(lambda text: text.upper() != "NULL")
partitions = st.lists(st.tuples(values, values), min_size=1, max_size=4, unique=True)


def write_table(root: Path, keys: Sequence[tuple[str, str]], compression: Compression = "zstd") -> list[Row]:
    """Two rows for each partition; gives what a reader should find."""
    found: list[Row] = []
    for number, (a, b) in enumerate(keys):
        path = root / hive_key("", ASSET, [("a", a), ("b", b)], None)
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [partition_entry(name, pa.scalar(value)) for name, value in (("a", a), ("b", b))]
        rows = pa.table({"n": [2 * number, 2 * number + 1]})
        encoder = ParquetEncoder(rows.schema, compression, entries, root / "spill")
        encoder.write(rows)
        content = encoder.finish().content
        assert isinstance(content, pa.Buffer)
        path.write_bytes(content)
        found += [(seen(a), seen(b), n) for n in rows["n"].to_pylist()]
    return sorted(found, key=repr)


def seen(value: str) -> str | None:
    return None if value in {"", HIVE_NULL} else value


def with_duckdb(root: Path) -> list[Row]:
    source = f"read_parquet('{root}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
    with duckdb.connect() as connection:
        return connection.execute(f"select a, b, n from {source}").fetchall()


def with_polars(root: Path) -> list[Row]:
    schema = {"a": pl.String, "b": pl.String}
    frame = pl.scan_parquet(root / ASSET[0] / ASSET[1], hive_partitioning=True, hive_schema=schema)
    return frame.select("a", "b", "n").collect().rows()


def with_pyarrow(root: Path) -> list[Row]:
    partitioning = ds.partitioning(pa.schema([("a", pa.string()), ("b", pa.string())]), flavor="hive")
    table = ds.dataset(root / ASSET[0] / ASSET[1], partitioning=partitioning).to_table(columns=["a", "b", "n"])
    return [(row["a"], row["b"], row["n"]) for row in table.to_pylist()]


def distinct_folders(keys: Sequence[tuple[str, str]]) -> bool:
    return len({hive_key("", ASSET, [("a", a), ("b", b)], None) for a, b in keys}) == len(keys)


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(60))
@given(partitions.filter(distinct_folders))
@example([("a/b", "c=d"), ("100%", "%2F"), ("..", "."), ("", HIVE_NULL), ("ü/日本", "a b+c"), ("'\"", "[x]{y}?*")])
@example([("\0", "\x7f\n"), (" lead", "trail "), ("~", "`$&;|<>")])
def test_every_reader_sees_the_same(keys: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        expected = write_table(root, keys)
        for reader in (with_duckdb, with_polars, with_pyarrow):
            assert sorted(reader(root), key=repr) == expected, reader.__name__


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_both_codecs_are_read(tmp_path: Path, compression: Compression) -> None:
    expected = write_table(tmp_path, [("CA", "x")], compression)
    assert with_duckdb(tmp_path) == with_polars(tmp_path) == with_pyarrow(tmp_path) == expected


def test_our_reader_knows_the_types_too(tmp_path: Path) -> None:
    values = {"state": pa.scalar("CA"), "date": pa.scalar(dt.date(2024, 1, 15)), "hour": pa.scalar(None, pa.int8())}
    rows = pa.table({"n": [1, 2]})
    entries = [partition_entry(name, value) for name, value in values.items()]
    encoder = ParquetEncoder(rows.schema, "zstd", entries, tmp_path / "spill")
    encoder.write(rows)
    table = decode(encoder.finish().content)
    assert table.schema == pa.schema(
        [("n", pa.int64()), ("state", pa.string()), ("date", pa.date32()), ("hour", pa.int8())]
    )
    assert table.to_pylist()[1] == {"n": 2, "state": "CA", "date": dt.date(2024, 1, 15), "hour": None}
