"""The new objects of a table that are copied before a query asks for them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.object_requests import new_objects
from dagfusion_query.object_cache.copies import copy_key


class File(NamedTuple):
    """A file of a table, as its event has it."""

    event_id: int
    partition_key: str
    uri: str
    size_bytes: int = 10
    etag: str | None = "1"
    checksum: str | None = None
    run_id: str = ""

    @property
    def key(self) -> str:
        return copy_key("local", self.uri, self.etag or "")


def table(files: Sequence[File]) -> Table:
    rows = pa.Table.from_pylist([file._asdict() for file in files])
    schema = pa.schema([])
    return Table(("t",), TableName("local_default", "t"), schema, schema, "", rows, environment="local")


def file(event_id: int, name: str, size_bytes: int = 10, etag: str | None = "1") -> File:
    return File(event_id, name, f"s3://lake/p={name}/data.parquet", size_bytes, etag)


def chosen(
    files: Sequence[File],
    after_event: int = 0,
    limit_bytes: int = 1000,
    object_bytes: int = 20,
    there: Callable[[str], bool] = lambda _: False,
) -> list[str | None]:
    """Return the partitions whose objects are copied."""
    found = [one for some in new_objects(table(files), after_event, limit_bytes, object_bytes, there) for one in some]
    assert [one.key for one in found] == [copy_key("local", one.file.uri, str(one.file.etag)) for one in found]
    assert all(one.part.size_bytes == one.file.size_bytes for one in found)
    return [one.file.partition for one in found]


def test_the_newest_small_objects_are_chosen() -> None:
    files = [file(5, "a"), file(2, "b"), file(3, "c"), file(4, "d", size_bytes=200)]
    assert chosen(files) == ["a", "c", "b"]
    assert chosen(files, object_bytes=200) == ["a", "d", "c", "b"]
    assert chosen(files, 2) == ["a", "c"]
    assert chosen(files, 3) == ["a"]
    assert chosen(files, limit_bytes=20) == ["a", "c"]
    assert chosen(files, limit_bytes=9) == chosen(files, 5) == []
    there = {files[0].key}
    assert chosen(files, limit_bytes=20, there=there.__contains__) == ["c", "b"], "it takes nothing of the limit"


def test_only_objects_that_have_a_version_and_a_bucket_are_chosen() -> None:
    local = File(3, "c", "file:///lake/p=c/data.parquet")
    assert chosen([file(1, "a"), file(2, "b", etag=None), local]) == ["a"]


def test_partitions_that_share_an_object_have_one_copy() -> None:
    shared = file(7, "a")
    files = [shared._replace(partition_key=str(number)) for number in range(200)] + [file(6, "b")]
    assert chosen(files, limit_bytes=20) == ["0", "b"]


def test_many_files_are_chosen_in_steps() -> None:
    """So that a worker hears of a cancellation, and holds few of them in memory."""
    files = [file(number + 1, str(number)) for number in range(10_000)]
    asked = list[str]()

    def there(key: str) -> bool:
        asked.append(key)
        return True

    steps = new_objects(table(files), 0, 1000, 20, there)
    assert next(steps) == []
    assert 0 < len(asked) <= 1000
    assert [some for some in steps if some] == []
    assert asked == [one.key for one in reversed(files)]
    everything = [some for some in new_objects(table(files), 0, 1 << 20, 20, lambda _: False) if some]
    assert max(map(len, everything)) <= 1000
    assert [one.key for some in everything for one in some] == asked
