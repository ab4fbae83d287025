"""Where a statement names what is wrong with it, and plans that name objects and tables instead of local files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.engine.datafusion_errors import Position, named_in, position_of, with_names

COPIES = {f"{n:02x}/{n:030x}": f"lake/p={n}/data.parquet" for n in range(4)}
# Folders of all kinds of characters. One that has an end of the list in it is none of a file system that we know.
FOLDERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda folder: folder[0] not in "[], :." and not any(part in folder for part in ("file_groups=", "filename=", "]}"))
)


@pytest.mark.parametrize(
    ("sql", "name", "expected"),
    [
        ("select naem from t", "naem", (1, 8)),
        ("select 'naem', -- naem\n/* naem */ $$naem$$,\n  NAEM from t", "naem", (3, 3)),
        ("select npi as nip from t\nwhere nip = 1", "nip", (2, 7)),
        ("select o.nam, nam from t o", "o.nam", (1, 8)),
        ("select o.nam, nam from t o", "nam", (1, 15)),
        ('select "Nam", nam from t', '"Nam"', (1, 8)),
        ('select "a""b. c" from t', '"a""b. c"', (1, 8)),
        ('select * from "s" . "raw Org"', "s.raw Org", (1, 15)),
        ("select 1 from s.nowhere where s.nowhere.x = 1", "s.nowhere", (1, 15)),
        ("select straße, größe from t", "größe", (1, 16)),
        ("select *", "nothing", None),
        ("select 'never ended nam", "nam", None),
        ("", "nam", None),
    ],
)
def test_position(sql: str, name: str, expected: tuple[int, int] | None) -> None:
    assert position_of(sql, name) == (expected and Position(*expected))


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


@given(FOLDERS, st.lists(st.lists(st.sampled_from(sorted(COPIES)), min_size=1, max_size=5), min_size=1, max_size=3))
def test_the_folder_is_not_shown(folder: str, groups: list[list[str]]) -> None:
    def plan(name: str) -> str:
        listed = ", ".join(f"[{', '.join(name.format(key, COPIES[key]) for key in group)}]" for group in groups)
        return (
            f"DataSourceExec: file_groups={{{len(groups)} groups: [{listed}, ...]}}, projection=[x], file_type=parquet"
        )

    escaped = folder.replace("{", "{{").replace("}", "}}")

    assert with_names(plan(escaped + "/objects/{0}"), COPIES) == plan("{1}")
    assert with_names(plan(escaped + "/objects/{0}:0..10"), COPIES) == plan("{1}:0..10")


@pytest.mark.parametrize("folder", ["srv", "home/my user", "srv/a,b", "srv/a, b", "srv/c:d", "srv/[x]", "srv/a[0], [1"])
def test_files_of_metrics_and_of_the_information_schema_are_named(folder: str) -> None:
    copy = next(iter(COPIES))

    assert with_names(f"bytes_scanned{{partition=0, filename={folder}/{copy}}}=1", COPIES) == (
        f"bytes_scanned{{partition=0, filename={COPIES[copy]}}}=1"
    )
    assert with_names(f"file_groups={{1 group: [[{folder}/information_schema3/tables.arrow]]}}, x", {}) == (
        "file_groups={1 group: [[information_schema/tables]]}, x"
    )


@given(FOLDERS)
def test_a_guess_in_a_literal_is_not_confirmed(folder: str) -> None:
    """A literal comes back as it is. One that has the form of a plan loses its folder, whichever that is."""
    copy, name = next(iter(COPIES.items()))
    for literal in (f"Projection: Utf8('/{folder}/{copy}')", f"Utf8('{folder}/information_schema/tables.arrow')"):
        assert with_names(literal, COPIES) == literal
    assert with_names(f"Utf8('file_groups={{1 group: [[{folder}/{copy}]]}}')", COPIES) == (
        f"Utf8('file_groups={{1 group: [[{name}]]}}')"
    )


def test_long_texts_take_linear_time() -> None:
    text = "file_groups={1 group: [" * 20_000 + "filename=" * 20_000 + "/ab/" * 20_000

    assert with_names(text, COPIES) == text


def test_files_that_are_no_copies_stay() -> None:
    text = "file_groups={2 groups: [[lake/p=a/data.parquet:0..10, lake/b.parquet], [c]]}, '/tables.arrow'"

    assert with_names(text, COPIES) == text
