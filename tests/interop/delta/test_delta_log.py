"""The commits of a Delta log: what each has, of exports at once, and after failures."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import obstore
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_interop.delta.delta_log import ATTEMPTS, LogState, export_to, next_commit
from dagfusion_query.catalog.model import Snapshot
from tests.interop.delta.delta_tables import AT_MS, LOCATION, LOG_FOLDER, Lake, actions_of, exported, part_of, read
from tests.query.catalog.folding import NAME
from tests.tiers import examples

STATE = {"state": "string"}
RUNS = [f"6f9619ff-8b86-4d01-b42d-00cf4fc964f{number}" for number in range(8)]


def paths(actions: Sequence[Any]) -> list[str]:
    return [action["path"] for action in actions]


@pytest.fixture
def state() -> LogState:
    return LogState(LOCATION)


def test_the_first_commit_has_the_whole_table(state: LogState) -> None:
    made = exported(state, [part_of(1), part_of(2, ("NY",))], STATE)

    assert [*made] == ["commitInfo", "protocol", "metaData", "add"]
    assert made["commitInfo"] == [
        {
            "timestamp": AT_MS,
            "operation": "WRITE",
            "engineInfo": "dagfusion",
            "dagster.event-id": 2,
            "dagster.run-id": "run",
        }
    ]
    assert made["protocol"] == [{"minReaderVersion": 1, "minWriterVersion": 2}]
    (metadata,) = made["metaData"]
    assert (metadata["name"], metadata["partitionColumns"]) == (str(NAME), ["state"])
    assert paths(made["add"]) == ["state=CA/data.parquet", "state=NY/data.parquet"]
    assert state.version == 0


def test_nothing_changed_is_no_commit(state: LogState) -> None:
    parts = [part_of(1), part_of(2, ("NY",))]
    exported(state, parts, STATE)

    assert exported(state, parts[::-1], STATE) == {}
    assert state.version == 0


def test_an_object_of_a_stable_name_is_added_again(state: LogState) -> None:
    exported(state, [part_of(1), part_of(2, ("NY",))], STATE)
    made = exported(state, [part_of(1), part_of(3, ("NY",))], STATE)

    assert [*made] == ["commitInfo", "add"], "a commit must not remove and add one path"
    assert paths(made["add"]) == ["state=NY/data.parquet"]


def test_an_object_of_a_new_name_replaces_another(state: LogState) -> None:
    exported(state, [part_of(1, run=RUNS[0]), part_of(2, ("NY",), run=RUNS[0])], STATE)
    made = exported(state, [part_of(1, run=RUNS[0]), part_of(3, ("NY",), run=RUNS[1])], STATE)

    assert [*made] == ["commitInfo", "remove", "add"]
    assert made["remove"] == [
        {"path": f"state=NY/data-{RUNS[0]}.parquet", "deletionTimestamp": AT_MS, "dataChange": True}
    ]
    assert paths(made["add"]) == [f"state=NY/data-{RUNS[1]}.parquet"]


def test_wiped_partitions_are_removed(state: LogState) -> None:
    exported(state, [part_of(1), part_of(2, ("NY",))], STATE)

    assert paths(exported(state, [part_of(1)], STATE)["remove"]) == ["state=NY/data.parquet"]
    wiped = next_commit(state, None, (), AT_MS)
    assert wiped is not None
    state.replay(wiped.version, wiped.content)
    assert [*actions_of(wiped.content)] == ["commitInfo", "remove"]
    assert next_commit(state, None, (), AT_MS) is None
    assert [*exported(state, [part_of(4)], STATE)] == ["commitInfo", "add"]


def test_a_column_more_is_new_metadata_of_the_same_table(state: LogState) -> None:
    (before,) = exported(state, [part_of(1)], STATE)["metaData"]
    made = exported(state, [part_of(1), part_of(2, ("NY",), columns={"n": "int64", "more": "string"})], STATE)
    (after,) = made["metaData"]

    assert {**after, "schemaString": ""} == {**before, "schemaString": ""}
    assert [(one["name"], one["type"]) for one in orjson.loads(after["schemaString"])["fields"]] == [
        ("n", "long"),
        ("more", "string"),
        ("state", "string"),
    ]
    assert paths(made["add"]) == ["state=NY/data.parquet"]


def test_other_partition_columns_replace_the_table(state: LogState) -> None:
    exported(state, [part_of(1)], STATE)
    made = exported(state, [part_of(2, (1,))], {"day": "int64"})

    assert made["metaData"][0]["partitionColumns"] == ["day"]
    assert (paths(made["remove"]), paths(made["add"])) == (["state=CA/data.parquet"], ["day=1/data.parquet"])


def test_local_times_need_a_protocol_that_is_kept(state: LogState) -> None:
    local = {"at": "timestamp[us]"}
    assert exported(state, [part_of(1)], STATE)["protocol"][0]["minReaderVersion"] == 1
    (protocol,) = exported(state, [part_of(2, columns=local)], STATE)["protocol"]
    assert (protocol["minReaderVersion"], protocol["readerFeatures"]) == (3, ["timestampNtz"])
    nested = {"list": {"name": "item", "type": "timestamp[us]", "nullable": True}}
    assert "protocol" not in exported(state, [part_of(3, columns={"l": nested})], STATE)
    assert "protocol" not in exported(state, [part_of(4)], STATE)


@settings(max_examples=examples(30))
@given(
    tables=st.lists(
        st.dictionaries(
            st.sampled_from(["CA", "a/b", None]),
            st.tuples(st.sampled_from([None, *RUNS[:2]]), st.sampled_from(["int32", "int64", "timestamp[us]"])),
            min_size=1,
        ),
        max_size=6,
    )
)
def test_a_log_comes_to_what_was_exported_last(tables: list[dict[str | None, tuple[str | None, str]]]) -> None:
    state, numbers = LogState(LOCATION), count(1)
    for table in tables:
        kinds = {kind for _, kind in table.values()}
        parts = [
            part_of(
                next(numbers),
                (place,),
                run=run,
                columns={"n": kind if "timestamp[us]" not in kinds else "timestamp[us]"},
            )
            for place, (run, kind) in table.items()
        ]
        found, layouts = read(parts, STATE)
        exported(state, parts, STATE)
        assert {f"s3://bucket/lake/Silver/TaxID/orgs/{path}" for path in map(_unquoted, state.files)} == set(
            found.files["uri"].to_pylist()
        )
        assert next_commit(state, found, layouts, AT_MS + 1) is None


def _unquoted(path: str) -> str:
    return path.replace("%25", "%")


@pytest.fixture
def lake() -> Lake:
    return Lake()


def test_an_export_reads_the_log_back(lake: Lake) -> None:
    versions = [export_to(lake.log, NAME, lake.grown).version for _ in range(12)]
    last = export_to(lake.log, NAME, lake.current)

    assert versions == [*range(12)]
    assert (last.version, last.commit) == (11, None)
    assert len(lake.replayed().files) == 12
    assert [len(actions_of(content)["add"]) for content in lake.commits()] == [1] * 12


def test_the_loser_of_two_exports_reads_what_the_winner_wrote(lake: Lake) -> None:
    calls = count()

    def overtaken() -> Snapshot:
        if not next(calls):
            export_to(lake.log, NAME, lake.grown)
            lake.events += 1
        return lake.current()

    done = export_to(lake.log, NAME, overtaken)

    assert next(calls) == 2, "it looked at the catalog again"
    assert done.version == 1
    assert [paths(actions_of(content)["add"]) for content in lake.commits()] == [
        ["state=1/data.parquet"],
        ["state=2/data.parquet"],
    ]


def test_an_export_that_always_loses_gives_up(lake: Lake) -> None:
    def overtaken() -> Snapshot:
        export_to(lake.log, NAME, lake.grown)
        return lake.grown()

    with pytest.raises(StoreUnavailableError, match=f"others wrote to the Delta log in .* {ATTEMPTS} times meanwhile"):
        export_to(lake.log, NAME, overtaken)
    assert len(lake.commits()) == ATTEMPTS


def test_many_exports_at_once(lake: Lake) -> None:
    """Each commit is of a catalog that is at least as new as that of the commit before."""
    start = threading.Barrier(4)

    def run(_: int) -> None:
        start.wait()
        export_to(lake.log, NAME, lake.grown)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    export_to(lake.log, NAME, lake.current)
    events = [actions_of(content)["commitInfo"][0]["dagster.event-id"] for content in lake.commits()]

    assert events == sorted(events)
    assert len(lake.replayed().files) == lake.events


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException, bool], None]]:
    """Makes the next PUT fail, before or after it had its effect."""
    put = obstore.put
    waiting: list[tuple[BaseException, bool]] = []

    def failing_put(*args: Any, **options: Any) -> Any:
        if not waiting:
            return put(*args, **options)
        error, has_effect = waiting.pop()
        if has_effect:
            put(*args, **options)
        raise error

    monkeypatch.setattr(obstore, "put", failing_put)
    yield lambda error, has_effect: waiting.append((error, has_effect))
    assert not waiting


@pytest.mark.parametrize("has_effect", [False, True])
@pytest.mark.parametrize(
    ("error", "raised"), [(KilledError(), KilledError), (OSError("connection reset"), StoreUnavailableError)]
)
def test_a_failure_leaves_a_log_with_or_without_the_commit(
    lake: Lake,
    failing: Callable[[BaseException, bool], None],
    error: BaseException,
    raised: type[BaseException],
    has_effect: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    export_to(lake.log, NAME, lake.grown)
    failing(error, has_effect)
    with pytest.raises(raised):
        export_to(lake.log, NAME, lake.grown)
    assert len(lake.replayed().files) == 1 + has_effect

    done = export_to(lake.log, NAME, lake.current)
    assert (done.version, done.commit is None) == (1, has_effect)
    assert len(lake.replayed().files) == 2


def test_an_answer_that_was_lost_is_no_second_commit(
    lake: Lake, failing: Callable[[BaseException, bool], None]
) -> None:
    """The client of the store sends the PUT again, and hears that its own object exists."""
    failing(obstore.exceptions.AlreadyExistsError("it exists"), True)  # noqa: FBT003
    done = export_to(lake.log, NAME, lake.grown)

    assert (done.version, len(lake.commits())) == (1, 2), "the catalog has grown meanwhile"
    lake_now = export_to(lake.log, NAME, lake.current)
    assert lake_now.commit is None


def test_other_objects_of_the_folder_are_ignored(lake: Lake) -> None:
    others = ("00000000000000000000.crc", "_last_checkpoint", f"{0:020d}.checkpoint.parquet", "1.json")
    for name in (*others, f"old/{0:020d}.json", f"old/{7:020d}.json"):
        obstore.put(lake.store, f"{LOG_FOLDER}/{name}", b"?")

    assert export_to(lake.log, NAME, lake.grown).version == 0
    assert export_to(lake.log, NAME, lake.grown).version == 1


def test_a_log_that_begins_anew_is_another_table(state: LogState) -> None:
    parts = read([part_of(1)], STATE)
    first, later = (next_commit(state, *parts, AT_MS + more) for more in (0, 1))
    assert first is not None
    assert later is not None
    metadata, other = (actions_of(commit.content)["metaData"][0] for commit in (first, later))

    assert {**metadata, "id": "", "createdTime": 0} == {**other, "id": "", "createdTime": 0}
    assert metadata["id"] != other["id"]
    state.replay(0, first.content)
    assert next_commit(state, *parts, AT_MS + 1) is None, "a log keeps its id"
