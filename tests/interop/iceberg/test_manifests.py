"""Manifests: what PyIceberg reads is what the events say, and what did not change is not written again."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_contract.arrow_types import parse_type
from dagfusion_contract.values import value_entry
from dagfusion_interop.iceberg.event_order import EventOrder
from dagfusion_interop.iceberg.file_groups import KEY_BITS, areas, new_after
from dagfusion_interop.iceberg.file_groups import manifests as grouped
from dagfusion_interop.iceberg.known_metadata import KnownMetadata
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.settings import Settings
from tests.interop.iceberg.reading import Part, bounds_of, data_files, folded, manifests, only, opened, publish
from tests.tiers import examples

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # as Arrow counts
MICROSECOND = dt.timedelta(microseconds=1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
DECIMALS = st.integers(-(10**12) + 1, 10**12 - 1).map(lambda number: Decimal(number).scaleb(-2))
# Arrow's type to its values.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "string": TEXT,
    "decimal128(12, 2)": DECIMALS,
    "date32[day]": st.dates(),
    "timestamp[ms]": st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    "timestamp[us]": st.datetimes(),
    "timestamp[us, tz=UTC]": st.datetimes().map(lambda at: at.replace(tzinfo=dt.UTC)),
}
BOUNDED = VALUES | {"double": st.floats(allow_nan=False, allow_infinity=False), "time64[us]": st.times()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "_iceberg"


@pytest.fixture
def publisher(folder: Path) -> Iterator[Publisher]:
    made = Publisher(f"file://{folder}", Settings())
    yield made
    made.close()


def as_json(value: Any, kind: str) -> Any:
    return None if value is None else value_entry(pa.scalar(value, parse_type(kind, "type")))


def in_iceberg(value: Any) -> Any:
    """The number by which Iceberg's metadata has a date or a time; anything else is itself."""
    if isinstance(value, dt.datetime):
        return (value.replace(tzinfo=None) - EPOCH) // MICROSECOND
    if isinstance(value, dt.date):
        return (value - EPOCH.date()).days
    if isinstance(value, dt.time):
        return (dt.datetime.combine(EPOCH.date(), value) - EPOCH) // MICROSECOND
    return value


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], list[tuple[list[Any], dict[str, Any]]]]:
    """Partition columns, columns of files, and files: partition values, and least, greatest and nulls by column."""
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
    found = draw(st.lists(names, min_size=2, max_size=5, unique=True))
    count = draw(st.integers(0, len(found) - 1))
    kinds = {name: draw(st.sampled_from(sorted(VALUES))) for name in found[:count]}
    columns = {name: draw(st.sampled_from(sorted(BOUNDED))) for name in found[count:]}
    files = []
    for values in draw(
        st.lists(
            st.tuples(*(st.none() | VALUES[kind] for kind in kinds.values())),
            min_size=1,
            max_size=6 if kinds else 1,
            unique_by=repr,
        )
    ):
        stats = {}
        for name, kind in columns.items():
            ends = draw(st.none() | st.lists(BOUNDED[kind], min_size=2, max_size=2))
            low, high = (None, None) if ends is None else sorted(ends)
            stats[name] = (low, high, draw(st.integers(0, 3)))
        files.append((list(values), stats))
    return kinds, columns, files


@hypothesis.given(tables())
@hypothesis.settings(max_examples=examples(50), suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_what_is_read_is_what_the_events_say(
    publisher: Publisher,
    table: tuple[dict[str, str], dict[str, str], list[tuple[list[Any], dict[str, Any]]]],
) -> None:
    kinds, columns, files = table
    parts = []
    for values, stats in files:
        encoded = {
            name: {"nulls": nulls}
            | ({} if low is None else {"min": as_json(low, columns[name]), "max": as_json(high, columns[name])})
            for name, (low, high, nulls) in stats.items()
        }
        named = [as_json(value, kind) for value, kind in zip(values, kinds.values(), strict=True)]
        parts.append(Part(named, columns, encoded))
    published = publish(publisher, folded(parts, kinds))
    found = data_files(published)
    assert [file.file_path for file in found] == [f"s3://bucket/orgs/{n}.parquet" for n in range(1, len(files) + 1)]
    for number, (file, (values, stats)) in enumerate(zip(found, files, strict=True), 1):
        assert (file.record_count, file.file_size_in_bytes) == (3, 1000 + number)
        assert [plain(file.partition[at]) for at in range(len(values))] == [in_iceberg(value) for value in values]
        expected = {name: (in_iceberg(low), in_iceberg(high), nulls) for name, (low, high, nulls) in stats.items()}
        assert bounds_of(published, file) == expected
    assert opened(published).metadata.location == "s3://bucket/orgs"


def plain(value: Any) -> Any:
    return in_iceberg(value) if isinstance(value, (dt.date, dt.datetime)) else value


@pytest.mark.parametrize("name", [".", ".x", "[0]", "a.b", "\\"])
def test_a_column_may_be_named_as_a_path_is_written(publisher: Publisher, name: str) -> None:
    parts = [Part((key,), {f"{name}.": "int64"}, {f"{name}.": {"min": 1, "max": 2, "nulls": 0}}) for key in "ab"]
    published = publish(publisher, folded(parts, {name: "string"}))
    found = data_files(published)
    assert [file.partition[0] for file in found] == ["a", "b"]
    assert [bounds_of(published, file) for file in found] == [{f"{name}.": (1, 2, 0)}] * len(found)


def test_zero_is_either_zero(publisher: Publisher) -> None:
    """Iceberg orders -0.0 before 0.0, and a record's bound may be one while the file has the other."""
    parts = [Part((), {"v": "double"}, {"v": {"min": 0.0, "max": -0.0, "nulls": 0}})]
    published = publish(publisher, folded(parts, {}))
    low, high, _ = bounds_of(published, data_files(published)[0])["v"]
    assert [str(low), str(high)] == ["-0.0", "0.0"]


def test_a_column_that_a_file_lacks_is_null_in_all_of_its_rows(publisher: Publisher) -> None:
    parts = [Part(("a",), {"x": "int64"}, {}), Part(("b",), {"y": "int64"}, {"y": {"min": 1, "max": 2, "nulls": 0}})]
    published = publish(publisher, folded(parts, {"p": "string"}))
    first, second = data_files(published)
    assert bounds_of(published, first) == {"y": (None, None, 3)}, "nothing is known of x"
    assert bounds_of(published, second) == {"x": (None, None, 3), "y": (1, 2, 0)}


def states(*names: str, days: int = 40, first: int = 0) -> list[Part]:
    dates = [(dt.date(2024, 1, 1) + dt.timedelta(day)).isoformat() for day in range(first, first + days)]
    return [Part((name, date), {"id": "int64"}, {}) for name in names for date in dates]


HALF_AN_HOUR_S = 1800.0
KINDS = {"state": "string", "date": "date32[day]"}


def uris(published: Published) -> set[str]:
    return {manifest.manifest_path for manifest in manifests(published)}


def test_a_manifest_has_one_leading_value_and_says_its_range(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 30)
    published = publish(publisher, folded(states("CA", "NY"), KINDS))
    found = manifests(published)
    assert [(m.added_files_count, m.added_rows_count) for m in found] == [(40, 120), (40, 120)]
    parts = [m.partitions or [] for m in found]
    assert sorted((state.lower_bound, state.upper_bound) for state, _ in parts) == [(b"CA", b"CA"), (b"NY", b"NY")]
    assert not any(part.contains_null for summaries in parts for part in summaries)


def test_only_what_changed_is_written(publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 30)
    before = folded(states("CA", "NY", "TX"), KINDS)
    first = publish(publisher, before)
    assert publish(publisher, before) is first
    after = folded(states("NY", days=1, first=40), KINDS, before, 1000)
    second = publish(publisher, after)
    assert (len(uris(first) & uris(second)), len(uris(second))) == (2, 3)
    assert len(data_files(second)) == 121
    rewritten = folded([replace(part, number=1000) for part in states("NY", days=1, first=40)], KINDS, after, 2000)
    third = publish(publisher, rewritten)
    assert uris(second) == uris(third), "the object was replaced by one of its name, size and statistics"
    assert len({opened(p).metadata.current_snapshot_id for p in (first, second, third)}) == 3
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert len(files) == 3 + 1 + 3 * 2, "manifests, and a manifest list and a document of each version"


def test_many_files_have_bounds_of_few_columns(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_interop.iceberg.iceberg_schema._MAX_BOUNDS", 16)
    stats = {name: {"min": 1, "max": 2, "nulls": 0} for name in "abcd"}
    parts = [Part((str(n),), dict.fromkeys("abcd", "int64"), stats) for n in range(6)]
    four = folded(parts[:4], {"p": "string"})
    first = publish(publisher, four)
    assert [set(bounds_of(first, file)) for file in data_files(first)] == [{*"abcd"}] * 4
    six = publish(publisher, folded(parts[4:], {"p": "string"}, four, 5))
    assert [set(bounds_of(six, file)) for file in data_files(six)] == [{"a", "b"}] * 6


def test_services_agree_without_speaking_to_each_other(publisher: Publisher, folder: Path) -> None:
    parts = states("CA", "NY")
    first = publish(publisher, folded(parts, KINDS))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = Publisher(f"file://{folder}", Settings())
    # It followed the log in other steps, so that its generations and segments differ.
    halves = folded(parts[40:], KINDS, folded(parts[:40], KINDS), 41)
    second = publish(other, halves)
    other.close()
    assert second == first
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_manifests_that_the_vacuum_deleted_are_written_again(folder: Path) -> None:
    now = [0.0]
    publisher = Publisher(f"file://{folder}", Settings(), clock=lambda: now[0])
    parts = states("CA", "NY")
    publish(publisher, folded(parts, KINDS))
    for path in folder.rglob("*-manifest.avro"):
        path.unlink()
    now[0] = HALF_AN_HOUR_S
    assert len(data_files(publish(publisher, folded(parts[:-1], KINDS)))) == len(parts) - 1
    publisher.close()


def test_a_store_that_fails_leaves_no_version_behind(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = folded(states("CA"), KINDS)
    real, left = obstore.put, [2]

    def put(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("the disk is full")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", put)
        with pytest.raises(StoreUnavailableError, match="cannot be written now"):
            publish(publisher, snapshot)
    assert not list(folder.rglob("*.metadata.json"))
    assert len(data_files(publish(publisher, snapshot))) == 40


def test_the_state_of_a_dropped_table_is_forgotten(publisher: Publisher) -> None:
    snapshot = folded(states("CA"), KINDS)
    first = publish(publisher, snapshot)
    publisher.forget_dropped(snapshot)
    publisher.forget_dropped(Snapshot(snapshot.generation - 1, "uat"))
    assert publisher.recent(first.table.name, first.snapshot_id) is first, "an older catalog says nothing"
    publisher.forget_dropped(Snapshot(snapshot.generation + 1, "uat"))
    assert publisher._tables == {}
    again = publish(publisher, folded(states("CA"), KINDS))
    assert again == first
    assert len(data_files(again)) == 40


def test_versions_that_the_vacuum_may_have_deleted_take_no_memory(folder: Path) -> None:
    now = [0.0]
    publisher = Publisher(f"file://{folder}", Settings(), clock=lambda: now[0])
    snapshot = folded(states("CA")[:1], KINDS)
    for event_id in range(2, 12):
        now[0] += HALF_AN_HOUR_S / 4
        snapshot = folded(states("CA")[:1], KINDS, snapshot, event_id)
        publish(publisher, snapshot)
    assert len(only_entry(publisher).states_s) == 4
    publisher.close()


def only_entry(publisher: Publisher) -> KnownMetadata:
    (entry,) = publisher._tables.values()
    return entry


def test_values_without_a_file_are_dropped_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that keeps twenty days, a day at a time. The groups are those of a process that starts with its files."""
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._SPARE_VALUES", 8)
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 4)
    kinds = {"day": "string", "state": "string"}
    parts = [Part([f"D{day:03}", state], {"id": "int64"}, {}) for day in range(200) for state in ("CA", "NY", None)]
    files, order, most = only(folded(parts, kinds)).files, None, 0
    for first in range(0, 540, 3):
        order = EventOrder.of(files.slice(first, 60), "day", before=order)
        most = max(most, len(order.leading.values))
        fresh = EventOrder.of(order.files, "day")
        assert order.leading.groups(order.codes).tolist() == fresh.leading.groups(fresh.codes).tolist()
        assert [order.leading.values[code] for code in order.codes] == [fresh.leading.values[c] for c in fresh.codes]
    assert 20 <= most <= 41
    assert order is not None
    assert len(order.leading.codes) == len(order.leading.cuts) == len(order.leading.values)
    nothing = EventOrder.of(files.slice(0, 0), "day", before=order)
    assert len(nothing.leading.values) == 0


def groups_of(files: pa.Table, after: int | None = None) -> list[list[int]]:
    """The events of the files of each manifest of a table by state."""
    order = EventOrder.of(files, "state")
    found = []
    for start, end, of_new in areas(order.keys, after):
        groups = None if of_new else order.leading.groups(order.codes[start:end])
        found += [
            [int(order.keys[start + at]) >> KEY_BITS for block in manifest for at in block]
            for manifest in grouped(order.keys[start:end], groups)
        ]
    return found


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=examples(50))
def test_groups_have_each_file_once_and_follow_from_the_files(data: st.DataObject) -> None:
    by_state = data.draw(st.dictionaries(st.none() | TEXT, st.integers(1, 40), min_size=1, max_size=30))
    keys = [(state, f"2024-{n:04}") for state, count in by_state.items() for n in range(count)]
    keys = data.draw(st.permutations(keys))
    parts = [Part(key, {"id": "int64"}, {}) for key in keys]
    kinds = {"state": "string", "day": "string"}
    files = only(folded(parts, kinds)).files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_interop.iceberg.file_groups.MAX_FILES", 16)
        patch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 8)
        patch.setattr(
            "dagfusion_interop.iceberg.file_groups._RANGE_FILES", data.draw(st.sampled_from([20, 100, 10_000]))
        )
        groups = groups_of(files)
        order = data.draw(st.permutations(range(len(files))))
        assert groups_of(files.take(order)) == groups
    assert sorted(id_ for group in groups for id_ in group) == sorted(files["event_id"].to_pylist())
    assert all(len(group) <= 16 for group in groups)


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=examples(50))
def test_new_files_have_manifests_of_their_own(data: st.DataObject) -> None:
    by_state = data.draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 20), min_size=1))
    keys = data.draw(st.permutations([(state, f"{n}") for state, count in by_state.items() for n in range(count)]))
    files = only(folded([Part(key, {"id": "int64"}, {}) for key in keys], {"state": "string", "day": "string"})).files
    after = data.draw(st.integers(0, len(files)))
    old = files.filter(pc.less_equal(files["event_id"], after))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 4)
        groups, of_old = groups_of(files, after), groups_of(old)
        order = data.draw(st.permutations(range(len(files))))
        assert groups_of(files.take(order), after) == groups
    new = groups[: len(groups) - len(of_old)]
    assert [*new, *of_old] == groups
    assert [event for group in new for event in group] == list(range(after + 1, len(files) + 1))


@hypothesis.given(st.lists(st.integers(1, 1 << 40), min_size=2, max_size=400), st.integers(1, 3))
@hypothesis.settings(max_examples=examples(200))
def test_the_event_after_which_files_are_new(ids: list[int], repeated: int) -> None:
    events = sorted(ids * repeated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_interop.iceberg.file_groups._LEAST_NEW", 8)
        after = new_after(pa.chunked_array([events]))
    share = 1 << (len(events) // 8).bit_length() >> 1
    least, most = share // 8, share + share // 8
    if share < 8:
        assert after is None
    elif after is None:
        assert events[-least] == events[-most]
    else:
        assert least <= sum(event > after for event in events) < most + 1


def test_few_manifests_change_with_new_files(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many states have a new file each time; the new files join the others at a few of the times."""
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 8)
    monkeypatch.setattr("dagfusion_interop.iceberg.file_groups._LEAST_NEW", 16)
    names = [f"S{number}" for number in range(10)]
    snapshot = folded(states(*names), KINDS)
    before, changed = uris(publish(publisher, snapshot)), []
    for time in range(12):
        parts = [part for name in names for part in states(name, days=1, first=100 + time)]
        snapshot = folded(parts, KINDS, snapshot, 1000 + 10 * time)
        published = publish(publisher, snapshot)
        changed.append(len(uris(published) - before))
        before = uris(published)
        assert len(data_files(published)) == 400 + 10 * (time + 1)
    assert sorted(changed)[6] <= 5
    assert sum(count >= 10 for count in changed) <= 4, changed
