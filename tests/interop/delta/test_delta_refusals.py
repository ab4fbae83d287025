"""What an export refuses: logs and folders of others, and event logs that do not know the table."""

import re
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    EventRecordError,
    SettingsError,
    StoreUnavailableError,
    UnknownTableError,
    UnsupportedTypeError,
)
from dagfusion_contract.naming import TableName
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import View
from dagfusion_interop.delta.delta_log import LogState, export_delta, export_to, next_commit
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Materialization, Wipe
from dagfusion_query.settings import Settings
from tests.interop.delta.delta_tables import AT_MS, LOCATION, Lake, Part, catalog, exported, part_of, read
from tests.query.catalog.folding import EMPTY, NAME, ORGS

STATE = {"state": "string"}


@pytest.fixture
def state() -> LogState:
    return LogState(LOCATION)


@pytest.fixture
def lake() -> Lake:
    return Lake()


AFTER_US = 1_800_000_000_000_000  # after the objects
INFO = b'{"commitInfo":{"engineInfo":"dagfusion"}}\n'


@pytest.mark.parametrize(
    ("version", "content", "why"),
    [
        (1, INFO, "has no version 0"),
        (0, b"", "has a version 0 of another writer"),
        (0, b'{"commitInfo":{"engineInfo":"Apache-Spark"}}\n', "has a version 0 of another writer"),
        (0, b'{"commitInfo":{"engine', "has a version 0 that cannot be read"),
        (0, INFO + b'{"add":{"size":1}}', "has a version 0 that cannot be read"),
        (0, INFO + b"{}", "has a version 0 that cannot be read"),
        (0, INFO + b"[]", "has a version 0 that cannot be read"),
    ],
)
def test_a_log_that_cannot_be_continued(state: LogState, version: int, content: bytes, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"the Delta log of {LOCATION} {why}.*: export to another --location$"):
        state.replay(version, content)


@pytest.mark.parametrize(
    ("table", "version", "content", "may_delete"),
    [
        (str(NAME), 2, INFO, True),
        (str(NAME), 1, INFO + b"{}", True),
        (str(NAME), 1, b"", False),  # of another writer
        ("uat_silver_tax_id.others", 2, INFO, False),
    ],
)
def test_only_a_log_of_the_same_table_is_offered_for_deletion(
    table: str,
    version: int,
    content: bytes,
    may_delete: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    state = LogState(LOCATION, table=table)
    exported(state, [part_of(1)], STATE)

    with pytest.raises(SettingsError) as raised:
        state.replay(version, content)
    assert ("delete its folder _delta_log" in str(raised.value)) == may_delete


def test_a_log_of_another_table_is_not_continued(state: LogState) -> None:
    exported(state, [part_of(1)], STATE)
    found, layouts = read([part_of(1)], STATE, key=("Silver", "TaxID", "others"))

    with pytest.raises(SettingsError, match=r"is that of table uat_silver_tax_id\.orgs, not of .*: .* --location$"):
        next_commit(state, found, layouts, AT_MS)


def test_a_wiped_table_needs_its_location(lake: Lake) -> None:
    empty = lake.current()
    with pytest.raises(UnknownTableError, match=r"no table uat_silver_tax_id\.orgs, and no Delta log in s3://"):
        export_to(lake.log, NAME, lambda: empty)
    with pytest.raises(UnknownTableError, match="give the folder of its Delta log as --location"):
        export_delta(NAME, lambda: empty, Settings())


def tombstoned(snapshot: Snapshot) -> Snapshot:
    return fold(snapshot, [Materialization(ORGS, 9, "1", 9000, "run", Tombstone("wiped"))])


def wiped(snapshot: Snapshot) -> Snapshot:
    return fold(snapshot, [Wipe(ORGS, AFTER_US)])


@pytest.mark.parametrize("gone", [tombstoned, wiped, lambda _: wiped(EMPTY)])
def test_the_files_of_a_wiped_table_are_removed(lake: Lake, gone: Callable[[Snapshot], Snapshot]) -> None:
    export_to(lake.log, NAME, lake.grown)
    after = gone(lake.current())
    done = export_to(lake.log, NAME, lambda: after)

    assert done.commit is not None
    assert (done.version, done.commit.removed, lake.replayed().files) == (1, 1, {})
    assert export_to(lake.log, NAME, lambda: after).commit is None
    with pytest.raises(SettingsError, match="is that of table"):
        export_to(lake.log, TableName("uat_silver_tax_id", "others"), lambda: after)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(EMPTY, id="fresh"),
        pytest.param(catalog([part_of(1)], STATE, ("Silver", "TaxID", "others")), id="of other assets"),
        pytest.param(fold(EMPTY, [Wipe(("Silver", "TaxID", "others"), 9000)]), id="another asset was wiped"),
        pytest.param(fold(EMPTY, [Wipe(("Silver", "tax_id", "orgs"), 9000)]), id="another asset of the name"),
        pytest.param(fold(replace(EMPTY, environment="prod"), [Wipe(ORGS, 9000)]), id="another environment"),
    ],
)
def test_an_event_log_that_does_not_know_the_table_removes_nothing(lake: Lake, other: Snapshot) -> None:
    export_to(lake.log, NAME, lake.grown)

    with pytest.raises(UnknownTableError, match=r"no wipe of it, .* has 1 files of it, .*: check --event-log"):
        export_to(lake.log, NAME, lambda: other)
    assert len(lake.commits()) == 1


def other_log(*parts: Part) -> Snapshot:
    return catalog(parts, STATE)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        pytest.param(other_log(part_of(1, ("9",))), 3, id="begun anew"),
        pytest.param(other_log(part_of(1, ("1",))), 2, id="restored"),
        pytest.param(other_log(part_of(9, ("9",))), 3, id="purged"),
        pytest.param(tombstoned(other_log(part_of(1, ("1",)))), 2, id="purged of all but a wipe"),
        pytest.param(fold(other_log(part_of(9, ("9",))), [Wipe(ORGS, 9000)]), 3, id="wiped before"),
    ],
)
def test_a_file_of_which_the_event_log_knows_nothing_newer_stays(lake: Lake, other: Snapshot, count: int) -> None:
    for _ in range(3):
        export_to(lake.log, NAME, lake.grown)

    with pytest.raises(SettingsError, match=rf"has {count} files that the event log does not have, .*: export to"):
        export_to(lake.log, NAME, lambda: other)
    assert len(lake.commits()) == 3


def test_files_go_that_later_events_replaced_refused_or_wiped(lake: Lake) -> None:
    for _ in range(5):
        export_to(lake.log, NAME, lake.grown)
    refused = EventRecordError("it cannot be read")
    later = [
        Materialization(ORGS, 6, "1", 9000, "run", Tombstone("wiped")),
        Materialization(ORGS, 7, "2", 9000, "run", refused),
        Materialization(ORGS, 1, "3", AFTER_US, "run", Tombstone("wiped")),  # of a database with other ids
    ]
    remaining = other_log(part_of(8, ("4",), run="6f9619ff-8b86-4d01-b42d-00cf4fc964f1"), part_of(5, ("5",)))
    done = export_to(lake.log, NAME, lambda: fold(remaining, later))

    assert done.commit is not None
    assert (done.commit.added, done.commit.removed) == (1, 4)
    assert len(lake.replayed().files) == 2


def test_files_of_another_definition_go(lake: Lake) -> None:
    export_to(lake.log, NAME, lake.grown)
    other = catalog([part_of(2, (7,))], {"day": "int64"})
    with pytest.raises(SettingsError, match="has 1 files that the event log does not have"):
        export_to(lake.log, NAME, lambda: other)
    both = catalog([part_of(2, (7,))], {"day": "int64"}, start=lake.current())
    done = export_to(lake.log, NAME, lambda: both)

    assert done.commit is not None
    assert (done.commit.added, done.commit.removed) == (1, 1)


def found_by_discovery(*uris: str) -> Snapshot:
    return catalog([part_of(n, (str(n),), uri=uri) for n, uri in enumerate(uris, 1)], STATE, foreign=True)


@pytest.mark.parametrize("file", ["part-0.parquet", "deep/er/part-0.parquet"])
def test_a_folder_that_an_event_of_another_io_manager_may_name_gets_no_log(lake: Lake, file: str) -> None:
    snapshot = found_by_discovery(f"{LOCATION}{file}", "s3://bucket/b/part-0.parquet")

    with pytest.raises(SettingsError, match=f"a Delta log in {LOCATION} could hide .* asset Silver/TaxID/orgs"):
        export_to(lake.log, NAME, lambda: snapshot)
    assert not lake.commits()


def test_a_folder_above_those_that_events_name_may_have_a_log(lake: Lake) -> None:
    snapshot = found_by_discovery(f"{LOCATION}state=1/part-0.parquet", f"{LOCATION}state=2/part-0.parquet")

    assert export_to(lake.log, NAME, lambda: snapshot).version == 0


@pytest.mark.parametrize(
    "location", ["s3://bucket", "gs://bucket/folder", "orgs", "s3://bucket/a%2Fb", "s3://bucket/a?b"]
)
def test_a_location_is_a_folder(lake: Lake, location: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"got {location!r}")):
        export_delta(NAME, lake.grown, Settings(), location)


def test_a_view_has_no_files() -> None:
    published = Materialization(ORGS, 1, None, 1000, "run", View("SELECT 1 AS a", (), pa.schema({"a": pa.int64()})))

    with pytest.raises(UnsupportedTypeError, match="is a view, which has no files"):
        export_delta(NAME, lambda: fold(EMPTY, [published]), Settings())


def test_the_error_of_a_table_is_raised(lake: Lake) -> None:
    snapshot = lake.grown()
    broken = {name: replace(table, problem=StoreUnavailableError("broken")) for name, table in snapshot.tables.items()}

    with pytest.raises(StoreUnavailableError, match="broken"):
        export_to(lake.log, NAME, lambda: replace(snapshot, tables=broken))
    with pytest.raises(StoreUnavailableError, match="broken"):
        export_to(
            lake.log, NAME, lambda: replace(snapshot, tables={}, problems={NAME: StoreUnavailableError("broken")})
        )
