"""What callers may not know is taken out of texts, and nothing else; plans name objects instead of local files."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import (
    EnvironmentUnavailableError,
    ExecutionError,
    PlanError,
    QueryError,
    SqlSyntaxError,
    StaleObjectError,
    StoreUnavailableError,
    UnknownTableError,
    UnsupportedTypeError,
)
from dagfusion_query.redact import Redactor, with_names
from dagfusion_query.settings import Settings

SETTINGS = replace(
    Settings(),
    endpoint_url="http://minio.internal:9000/",
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)

COPIES = {f"{n:02x}/{n:030x}": f"lake/p={n}/data.parquet" for n in range(4)}
# Folders of all kinds of characters. One that has an end of the list in it is none of a file system that we know.
FOLDERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda folder: folder[0] not in "[], :." and not any(part in folder for part in ("file_groups=", "filename=", "]}"))
)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor([SETTINGS, replace(Settings(), endpoint_url=None)], [Path("/var/lib/dagfusion")])


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("GET http://minio.internal:9000/bucket/x failed", "GET [endpoint]/bucket/x failed"),
        ("connect to minio.internal:9000: refused", "connect to [endpoint]: refused"),
        ("<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>", "<AWSAccessKeyId>[key]</AWSAccessKeyId>"),
        (f"no key {SETTINGS.secret_access_key}", "no key [key]"),
        (f"file://{tempfile.gettempdir()}/dagfusion-abc1/0/s0/k1/x.parquet, y", "[template], y"),
        (f"[{tempfile.gettempdir().strip('/')}/dagfusion-abc1/0/s0/k1/x.parquet]", "[[template]]"),
        ("/var/lib/dagfusion/uat/segments/a.arrow is gone", "[folder]/uat/segments/a.arrow is gone"),
        (f"in {sys.prefix}/lib", "in [folder]/lib"),
        ("panicked at /opt/cargo/registry/src/arrow-55/src/lib.rs:10:5: no", "panicked at [source]: no"),
        ("it failed\nTraceback (most recent call last):\n  File x", "it failed"),
        ("boom\n\nbacktrace:    0: std::backtrace", "boom"),
        (
            "Internal error: x.\nThis issue was likely caused by a bug in DataFusion's code. Please",
            "Internal error: x.",
        ),
    ],
)
def test_what_is_taken_out(redactor: Redactor, text: str, seen: str) -> None:
    assert redactor.text(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "there is no table uat_silver.test: did you mean uat_silver.tests?",
        "s3://bucket/var/lib/dagfusion/x.parquet is gone",
        "file:///data/lake/Silver/orgs/data.parquet (table local_silver.orgs) has changed",
        "syntax error at line 1, column 8: Expected: an expression, found: 'a/b'",
        "",
    ],
)
def test_what_stays(redactor: Redactor, text: str) -> None:
    assert redactor.text(text) == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (
            "file:///srv/a lake/orgs/state=CA/a.parquet (table x) is gone",
            "[folder]/state=CA/a.parquet (table x) is gone",
        ),
        (
            "[[srv/a lake/orgs/state=CA/a.parquet], [srv/a lake/orgs/b]]",
            "[[[folder]/state=CA/a.parquet], [[folder]/b]]",
        ),
        ("open /srv/a lake/orgs/a.parquet", "open [folder]/a.parquet"),
        ("s3://srv/a lake/orgs/a.parquet", "s3://srv/a lake/orgs/a.parquet"),
        ("event 3: 'file:///srv/x y/a.parquet' is gone", "event 3: '[folder]/a.parquet' is gone"),
        ("the folder 'file:///srv/x/' is empty", "the folder '[folder]/x/' is empty"),
        ("\"file:///o'brien/a\" and 'file:///b'", "\"[folder]/a\" and '[folder]/b'"),
    ],
)
def test_folders_of_local_objects_are_taken_out(redactor: Redactor, text: str, seen: str) -> None:
    assert redactor.text(text, ["/srv/a lake/orgs"]) == seen


def test_folders_are_known_by_all_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    redactor = Redactor([], [tmp_path / "link"])
    for name in (tmp_path, tmp_path / "link"):
        assert redactor.text(f"cannot write {name}/datafusion-x/.tmp1") == "cannot write [folder]/datafusion-x/.tmp1"
        assert redactor.text(f"[{str(name)[1:]}/dagfusion-abc1/0/x.parquet]") == "[[template]]"


def test_without_secrets_there_is_nothing_to_take_out() -> None:
    assert Redactor([Settings()]).text("a test") == "a test"


STORE = "Generic S3 error: Error performing GET http://minio.internal:9000/bucket/x in 1s: error sending request"


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError(f"the object store did not give s3://bucket/x: {STORE}"),
        StaleObjectError(f"s3://bucket/x is gone: {STORE}"),
        EnvironmentUnavailableError("http://minio.internal:9000 is down"),
        ExecutionError(f"Object Store error: {STORE}"),
        ExecutionError(f"ParquetError: External: {STORE}"),
        ExecutionError(f"Arrow error: External error: Object Store error: {STORE}"),
    ],
)
def test_errors_of_a_store_name_no_endpoint(redactor: Redactor, error: QueryError) -> None:
    assert "[endpoint]" in redactor.error(error)
    assert "minio" not in redactor.error(error)


@pytest.mark.parametrize(
    "error",
    [
        PlanError('No field named "http://minio.internal:9000".'),
        PlanError(f"Arrow error: Cast error: Cannot cast string 'Object Store error: {STORE}' to value of Int32 type"),
        ExecutionError("Arrow error: Cast error: Cannot cast string 'AKIAIOSFODNN7EXAMPLE' to value of Int32 type"),
        UnknownTableError("there is no table /var/lib/dagfusion"),
        UnsupportedTypeError("a column of the result has type struct<AKIAIOSFODNN7EXAMPLE: int64>"),
        SqlSyntaxError("syntax error at line 1, column 1: found: minio.internal:9000"),
    ],
)
def test_what_a_caller_wrote_is_left_as_it_is(redactor: Redactor, error: QueryError) -> None:
    assert redactor.error(error) == str(error)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("panicked at /opt/cargo/registry/src/arrow-55/src/lib.rs:10:5: no", "panicked at [source]: no"),
        ("open /srv/tmp/dagfusion-abc1_x2z/0/s0/k1/x.parquet, y", "open [template], y"),
        (
            "[[srv/tmp/dagfusion-abc1_x2z/0.arrow], [tmp/dagfusion-abc1_x2z/information_schema/tables.arrow]]",
            "[[[template]], [[template]]]",
        ),
        ("s3://dagster-parquet-data/orders/0.parquet", "s3://dagster-parquet-data/orders/0.parquet"),
        (
            "Internal error: x.\nThis issue was likely caused by a bug in DataFusion's code. Please",
            "Internal error: x.",
        ),
        ("it failed\nTraceback (most recent call last):\n  File x", "it failed"),
    ],
)
def test_what_is_taken_out_of_an_error_by_its_form(redactor: Redactor, text: str, seen: str) -> None:
    assert redactor.error(ExecutionError(text)) == seen


@pytest.mark.parametrize(
    ("plan", "seen"),
    [
        (
            "DataSourceExec: file_groups={2 groups: [[srv/a lake/orgs/state=CA/a.parquet:0..10, srv/b/c.parquet]]}, x",
            "DataSourceExec: file_groups={2 groups: [[[folder]/state=CA/a.parquet:0..10, [folder]/c.parquet]]}, x",
        ),
        (
            "file_groups={1 group: [[srv/x/a=1/b=2/f.parquet], ...]}",
            "file_groups={1 group: [[[folder]/a=1/b=2/f.parquet], ...]}",
        ),
        (
            "bytes_scanned{partition=0, filename=srv/a lake/orgs/state=CA/a.parquet}=12",
            "bytes_scanned{partition=0, filename=[folder]/state=CA/a.parquet}=12",
        ),
        ("FilterExec: name@1 = srv/a lake/orgs", "FilterExec: name@1 = srv/a lake/orgs"),
    ],
)
def test_folders_of_local_objects_are_taken_out_of_plans(redactor: Redactor, plan: str, seen: str) -> None:
    assert redactor.plan(plan, has_folders=True) == seen
    assert redactor.plan(plan, has_folders=False) == plan


@pytest.mark.parametrize(
    "piece",
    [
        "x",
        "/a",
        "a/",
        "\n",
        " ",
        "file_groups={1 group: [",
        "filename=",
        "a=1/",
        ", a=1/",
        "[a/",
        "dagfusion-abcdefgh/",
        "/a.rs",
        "Object Store error: ",
        "This issue ",
        "backtrace",
        "{filename=a/",
        "External: ",
        "/0/s0/k0",
    ],
)
@pytest.mark.usefixtures("heavy")
def test_long_texts_take_no_longer_than_their_length(redactor: Redactor, piece: str) -> None:
    """What is quadratic would take hours."""
    text = piece * (1_000_000 // len(piece))
    assert redactor.plan(text, has_folders=True)
    assert redactor.error(PlanError(f"x{text}"))


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
