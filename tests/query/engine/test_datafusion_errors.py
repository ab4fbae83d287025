"""Which column or function an error of DataFusion's is about, and which come of bytes that cannot be decoded."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

from dagfusion_query.engine.datafusion_errors import is_decoding_error, named_in
from dagfusion_query.engine.stored_objects import is_about_objects


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


@pytest.mark.parametrize(
    ("text", "is_decoding"),
    [
        ("ParquetError: Arrow: Parquet argument error: EOF", True),
        ("DataFusion error: Arrow error: Parquet argument error: Parquet error: bad", True),
        ("DataFusion error: Join Error\ncaused by\nExternal error: task 54 panicked with message", True),
        ("rust future panicked: unknown error", True),
        ("ParquetError: External: Object Store error: Generic S3 error", False),
        ("Arrow error: Cast error: rust future panicked", False),
    ],
)
def test_an_error_of_decoding(text: str, is_decoding: bool) -> None:  # noqa: FBT001  # a parameter of the test
    assert is_decoding_error(Exception(text)) == is_decoding


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_decoder_that_panics(tmp_path: Path, partitions: int) -> None:
    """A page without a dictionary says that its values are numbers of one."""
    pq.write_table(pa.table({"n": pa.array(range(100), pa.int64())}), tmp_path / "t.parquet", use_dictionary=False)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    place = content.index(bytes.fromhex("2c15c8011500")) + 5  # DataPageHeader {1: 100, 2: PLAIN}
    content[place] = 2 * 8  # RLE_DICTIONARY
    (tmp_path / "t.parquet").write_bytes(content)

    async def read() -> None:
        context = SessionContext(SessionConfig().with_target_partitions(partitions))
        context.register_parquet("t", str(tmp_path / "t.parquet"))
        async for _ in context.sql("SELECT count(DISTINCT n) FROM t").execute_stream():
            pass

    with pytest.raises(Exception, match="panicked") as raised:  # the classes of Rust's errors are not public
        asyncio.run(read())
    assert is_decoding_error(raised.value)
    assert is_about_objects(raised.value)
