"""What callers may not know is taken out of texts, and nothing else."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from dagfusion_query.settings import Settings
from dagfusion_query.worker.redact import Redactor

SETTINGS = replace(
    Settings(),
    endpoint_url="http://minio.internal:9000/",
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
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
