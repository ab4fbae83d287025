"""What a metadata value can mean as a place."""

import pytest

from dagfusion_client.errors import UndiscoverableError
from dagfusion_query.discovery.foreign_objects import places


@pytest.mark.parametrize(
    ("text", "uris"),
    [
        ("s3://bucket/a/b.parquet", ["s3://bucket/a/b.parquet"]),
        ("s3a://bucket/a/b.parquet", ["s3://bucket/a/b.parquet"]),
        ("S3://Bucket/a//b", ["s3://Bucket/a//b"]),
        ("s3://bucket/date%3D1/a.parquet", ["s3://bucket/date%3D1/a.parquet", "s3://bucket/date=1/a.parquet"]),
        ("s3://bucket/100%/a.parquet", ["s3://bucket/100%/a.parquet"]),
        ("/data/x y/a.parquet", ["file:///data/x y/a.parquet"]),
        ("/data/../secret/a.parquet", ["file:///secret/a.parquet"]),
        ("file:///data/a%20b.parquet", ["file:///data/a%20b.parquet", "file:///data/a b.parquet"]),
        ("file://localhost/data/a.parquet", ["file:///data/a.parquet"]),
        ("file:/data/folder/", ["file:///data/folder/"]),
    ],
)
def test_a_text_names_places(text: str, uris: list[str]) -> None:
    assert [place.uri for place in places(text)] == uris


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s3://bucket", "has no key"),
        ("s3://bucket/", "has no key"),
        ("s3:///key", "has no key"),
        ("s3://key:secret@bucket/a", "or a password"),
        ("https://host/a.parquet?X-Amz-Signature=secret", "the materialization names a https:// URL"),
        ("postgresql://me:secret@host/db", "the materialization names a postgresql:// URL"),
        ("data/a.parquet", "neither an absolute path"),
        ("file://elsewhere/a.parquet", "the materialization names a file:// URL"),
        ("/", "the root folder"),
        ("", "neither an absolute path"),
        ("x" * 10_000, r"xxx\.\.\."),
    ],
)
def test_what_is_no_place_is_refused_without_a_secret(text: str, reason: str) -> None:
    with pytest.raises(UndiscoverableError, match=reason) as refused:
        places(text)
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("text", ["s3://other/a.parquet", "/data/a.parquet", "s3://bucket2/a", "s3://bucket.x/a"])
def test_places_outside_of_the_bucket_are_refused(text: str) -> None:
    with pytest.raises(UndiscoverableError, match="outside of this environment's bucket"):
        places(text, "bucket")
    assert places("s3a://bucket/a.parquet", "bucket")
