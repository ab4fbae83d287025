"""The vacuum of Iceberg metadata: it deletes old versions, and nothing that a version in the retention needs."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import obstore
import pytest
from obstore.store import LocalStore

from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.old_iceberg_metadata import superseded_metadata
from dagfusion_pipeline.store import ObjectStore
from dagfusion_query.catalog.model import Snapshot, layouts_of
from dagfusion_query.catalog.past_tables import as_past
from dagfusion_query.settings import Settings
from tests.interop.iceberg.reading import Part, data_files, folded, only, publish, with_older
from tests.tiers import examples

KINDS = {"state": "string"}
HOUR_S = 3600
BASE_S = 1_700_000_000


class History:
    """Versions of one table, written an hour after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "_iceberg"
        self.store = ObjectStore(LocalStore(folder), f"file://{folder}")  # type: ignore[arg-type]  # a store of obstore
        self.versions: list[tuple[Published, int]] = []
        self._times: dict[Path, float] = {}

    def write(self, parts: list[Part], first: int | None = None, older: Published | None = None) -> None:
        """Write a version with the events from this one on, else with new ones, and with an older snapshot."""
        publisher = Publisher(f"file://{self.folder}", Settings())  # knows nothing of what was written before
        published = publish(publisher, folded(parts, KINDS, first=first or 1 + 100 * len(self.versions)))
        if older is not None:
            published = with_older(publisher, published, older.snapshot)
        publisher.close()
        self.age(len(self.versions))
        self.versions.append((published, len(parts)))

    def write_past(self, parts: list[Part], hour: float) -> Published:
        """Write a past state, which a statement reads in some hour."""
        publisher = Publisher(f"file://{self.folder}", Settings())
        published = publish_as_of(publisher, as_past(folded(parts, KINDS)))
        publisher.close()
        self.age(hour)
        return published

    def age(self, hour: float) -> None:
        """Give what was written since the last time of an hour."""
        for path in self.files():
            if path.stat().st_mtime != self._times.get(path):
                os.utime(path, (self.at(hour), self.at(hour)))
                self._times[path] = self.at(hour)

    def files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def at(self, hour: float) -> int:
        return int(BASE_S + hour * HOUR_S)

    def vacuum(self, since_hour: float) -> set[Path]:
        """Delete what was not needed since an hour, and return what is left."""
        since = datetime.fromtimestamp(self.at(since_hour), UTC)
        found = superseded_metadata(self.store, f"file://{self.folder}", since)
        self.store.delete_objects([stored.key for stored in found])
        return self.files()


def publish_as_of(publisher: Publisher, then: Snapshot) -> Published:
    table = only(then)
    return publisher.publish_as_of(table, layouts_of(table, then.asset_states[table.asset_key]))


def part(number: int) -> Part:
    return Part([f"S{number:02}"], {"id": "int64"}, {}, number=number)


@hypothesis.given(
    st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=1, max_size=8), st.floats(-1, 9, allow_nan=False)
)
@hypothesis.settings(max_examples=examples(60))
@pytest.mark.usefixtures("heavy")
def test_versions_in_the_retention_stay_whole(
    tmp_path_factory: pytest.TempPathFactory, written: list[set[int]], since_hour: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 1)  # several manifests, which are shared
        history = History(tmp_path_factory.mktemp("history"))
        for numbers in written:
            history.write([part(number) for number in sorted(numbers)])
    history.vacuum(since_hour)
    for number, (published, count) in enumerate(history.versions):
        if number + 1 == len(history.versions) or number + 1 >= since_hour:
            assert len(data_files(published)) == count
    left = history.vacuum(len(history.versions) + 1)
    assert sum(path.name.endswith(".metadata.json") for path in left) == 1
    assert len(data_files(history.versions[-1][0])) == history.versions[-1][1]


def test_old_versions_go(tmp_path: Path) -> None:
    history = History(tmp_path)
    for numbers in ((1,), (1, 2), (2, 3)):
        history.write([part(number) for number in numbers])
    assert len(history.files()) == 9
    other = tmp_path / "_iceberg" / "uat_silver_tax_id" / "notes.txt"
    other.write_text("a file that the service did not write")
    os.utime(other, (BASE_S, BASE_S))
    left = history.vacuum(5)
    assert len(left) == 4
    assert other in left


def test_files_of_refused_writes_go(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.write([part(1)])
    ((published, _),) = history.versions
    [folder] = {path.parent for path in history.files()}
    properties = json.loads(published.metadata)["properties"]
    assert {properties[f"write.{kind}.path"] for kind in ("data", "metadata")} == {f"file://{folder}/refused"}
    names = ("refused/0.parquet", "refused/state=CA/1.parquet", "refused/state=CA/2.parquet", "other/3.parquet")
    files = [*(folder / name for name in names), folder.parent / "refused" / "4.parquet"]  # the last: of a table
    for number, path in enumerate(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("rows")
        os.utime(path, (history.at(number % 3), history.at(number % 3)))
    assert set(files) - history.vacuum(2) == set(files[:2])
    assert len(data_files(published)) == 1


def test_tables_are_told_from_refused_writes_in_a_folder_of_more_environments(tmp_path: Path) -> None:
    history = History(tmp_path)
    folder = history.folder / "uat" / "uat_silver" / "refused"  # of a table of this name
    publisher = Publisher(f"file://{history.folder}", Settings())
    publish(publisher, folded([part(1)], KINDS))
    publisher.close()
    [source] = {path.parent for path in history.files()}
    folder.parent.mkdir(parents=True)
    source.rename(folder)
    kept = {*history.files(), history.folder / "Silver" / "TaxID" / "refused" / "state=CA" / "data.parquet"}
    refused = folder / "refused" / "0.parquet"
    for path in (*kept, refused):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (BASE_S, BASE_S))
    assert history.vacuum(9) == kept


def test_all_documents_of_the_last_version_stay(tmp_path: Path) -> None:
    """A client has the one with the older snapshots, and another one, that asks for none, has the other."""
    history = History(tmp_path)
    history.write([part(1)], first=1)
    ((first, _),) = history.versions
    history.write([part(1), part(2)], first=1)
    history.write([part(1), part(2)], first=1, older=first)
    alone, both = (published for published, _ in history.versions[1:])
    assert alone.uri != both.uri
    left = {path.name for path in history.vacuum(9)}
    assert {alone.uri.rpartition("/")[2], both.uri.rpartition("/")[2]} <= left
    assert first.uri.rpartition("/")[2] not in left
    history.write([part(3)], first=7)
    assert {path.name for path in history.vacuum(9)}.isdisjoint(
        {alone.uri.rpartition("/")[2], both.uri.rpartition("/")[2]}
    )


def test_a_past_state_stays_for_a_while_and_changes_nothing_else(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.write([part(1), part(2)], first=7)
    past = history.write_past([part(1)], 3)
    history.write([part(3)], first=9)  # in hour 1
    for path in history.files():
        if path.name in history.versions[1][0].uri or path.stat().st_mtime == history.at(1):
            os.utime(path, (history.at(6), history.at(6)))
    current, newest = (published for published, _ in history.versions)
    history.vacuum(3)
    assert [len(data_files(one)) for one in (past, current, newest)] == [1, 2, 1]
    left = {path.name for path in history.vacuum(4)}
    assert past.uri.rpartition("/")[2] not in left
    assert [len(data_files(one)) for one in (current, newest)] == [2, 1]  # the first was replaced in hour 6, not 3


def test_a_folder_with_past_states_only_becomes_empty(tmp_path: Path) -> None:
    history = History(tmp_path)
    past = history.write_past([part(1)], 3)
    history.vacuum(3)
    assert len(data_files(past)) == 1
    assert history.vacuum(4) == set()


def test_a_past_state_that_is_read_again_is_whole_after_a_vacuum(tmp_path: Path) -> None:
    """The current table is published all the time, and names none of the manifests of the past."""
    history, hour = History(tmp_path), [0.0]
    publisher = Publisher(f"file://{history.folder}", Settings(), clock=lambda: hour[0] * HOUR_S)
    then = as_past(folded([part(1)], KINDS))
    publish_as_of(publisher, then)
    for number in range(1, 8):
        history.age(hour[0])
        hour[0] = number / 3
        publish(publisher, folded([part(5), part(10 + number)], KINDS, first=100 * number))
    history.age(hour[0])
    history.vacuum(hour[0] - 1)
    assert len(data_files(publish_as_of(publisher, then))) == 1
    publisher.close()


def test_an_older_snapshot_that_nothing_named_lately_is_looked_for(tmp_path: Path) -> None:
    history, hour = History(tmp_path), [0.0]
    publisher = Publisher(f"file://{history.folder}", Settings(), clock=lambda: hour[0] * HOUR_S)
    first = publish(publisher, folded([part(1)], KINDS))
    version = first.snapshot.version
    assert publisher.past(first.table.name, version.sequence, version.at_ms) is not None
    for number in range(1, 8):
        history.age(hour[0])
        hour[0] = number / 3
        newest = publish(publisher, folded([part(5), part(10 + number)], KINDS, first=100 * number))
    history.age(hour[0])
    assert publisher.past(first.table.name, version.sequence, version.at_ms) is not None  # which keeps nothing
    history.vacuum(hour[0] - 1)
    assert publisher.past(first.table.name, version.sequence, version.at_ms) is None
    version = newest.snapshot.version
    assert publisher.past(first.table.name, version.sequence, version.at_ms) is not None
    publisher.close()


def test_a_past_state_that_is_read_again_during_a_vacuum_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, hour = History(tmp_path), [0.0]
    history.write([part(5)], first=100)
    publisher = Publisher(f"file://{history.folder}", Settings(), clock=lambda: hour[0] * HOUR_S)
    then = as_past(folded([part(1)], KINDS))
    publish_as_of(publisher, then)
    history.age(0)
    hour[0] = 2
    again: list[Published] = []
    read = ObjectStore.read_many

    def read_and_write(*arguments: object) -> object:
        again.append(publish_as_of(publisher, then))
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ObjectStore, "read_many", read_and_write)
    history.vacuum(1)
    assert len(data_files(again[0])) == 1
    publisher.close()


def test_one_that_is_written_again_in_the_meantime_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    for numbers in ((1,), (1, 2)):
        history.write([part(number) for number in numbers])
    before = history.files()
    read = ObjectStore.read_many

    def read_and_write(*arguments: object) -> object:
        history.write([part(1)], first=1)
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ObjectStore, "read_many", read_and_write)
    assert history.vacuum(9) >= before


def test_a_version_that_cannot_be_read_keeps_all(tmp_path: Path) -> None:
    history = History(tmp_path)
    for numbers in ((1,), (1, 2)):
        history.write([part(number) for number in numbers])
    (newest,) = (path for path in history.files() if path.name in history.versions[-1][0].uri)
    listed = [path for path in history.files() if path.name.encode() in newest.read_bytes()]
    for path in listed:
        path.unlink()
    before = history.files()
    assert len(listed) == 1
    assert history.vacuum(9) == before


def test_the_folder_is_in_the_bucket_of_the_io_manager(tmp_path: Path) -> None:
    store = ObjectStore(LocalStore(tmp_path), "s3://lake")  # type: ignore[arg-type]
    for folder in ("s3://other/_iceberg", "s3://lake/", "_iceberg"):
        with pytest.raises(ConfigurationError, match="iceberg_metadata must be a folder in s3://lake/"):
            superseded_metadata(store, folder, datetime.now(UTC))
    assert obstore.list(store.client).collect() == []
