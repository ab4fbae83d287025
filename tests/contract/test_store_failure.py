"""What a store says in an error is read alike by both sides."""

import pytest

from dagfusion_contract.store_failure import archived_text, failed_text, is_archived, is_without_bucket, status_of

S3_ANSWER = "response error, after 3 retries: status code: {status}\n<Error><Code>{code}</Code></Error>"


@pytest.mark.parametrize(
    ("status", "code", "found", "flags"),
    [
        ("403 Forbidden", "InvalidObjectState", (403, "Forbidden"), (True, False)),
        ("403 Forbidden", "AccessDenied", (403, "Forbidden"), (False, False)),
        ("404 Not Found", "NoSuchBucket", (404, "Not Found"), (False, True)),
        ("500 Internal Server Error", "InternalError", None, (False, False)),
    ],
)
def test_an_answer_of_s3_is_read(
    status: str, code: str, found: tuple[int, str] | None, flags: tuple[bool, bool]
) -> None:
    error = OSError(S3_ANSWER.format(status=status, code=code))
    assert status_of(error) == found
    assert (is_archived(error), is_without_bucket(error)) == flags


def test_a_message_has_the_first_line_of_the_error_and_the_next_step() -> None:
    assert (
        failed_text(OSError("refused\nby a proxy"), "could not read a", "try b") == "could not read a: refused; try b"
    )
    assert failed_text(TimeoutError(), "could not read a") == "could not read a: TimeoutError"
    assert archived_text("a", "write it again").endswith(" leave the partition out, or write it again")
