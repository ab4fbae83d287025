"""Why a request to an object store failed, from what obstore and the file system raise."""

import pytest
from obstore.exceptions import GenericError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from dagfusion_query.object_store import StoreFailure, failure_of, store_error

GENERIC = "Generic S3 error: Error performing GET http://s3/b/k: Server returned non-2xx status code: {}: body"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NotFoundError("no"), StoreFailure.missing),
        (NotFoundError("no x-InvalidObjectState/a.parquet"), StoreFailure.missing),
        (FileNotFoundError("no"), StoreFailure.missing),
        (NotADirectoryError("no"), StoreFailure.missing),
        (GenericError(GENERIC.format("404 Not Found")), StoreFailure.missing),
        (PermissionDeniedError("403"), StoreFailure.refused),
        (UnauthenticatedError("401"), StoreFailure.refused),
        (PermissionError("no"), StoreFailure.refused),
        (PermissionDeniedError("no x-status code: 404 "), StoreFailure.refused),
        (GenericError(GENERIC.format("403 Forbidden")), StoreFailure.refused),
        (GenericError(GENERIC.format("301 Moved Permanently")), StoreFailure.refused),
        (PermissionDeniedError("403: <Code>InvalidObjectState</Code>"), StoreFailure.archived),
        (GenericError(GENERIC.format("429 Too Many Requests")), StoreFailure.unavailable),
        (GenericError(GENERIC.format("503 Slow Down")), StoreFailure.unavailable),
        (GenericError("Generic S3 error: connection refused"), StoreFailure.unavailable),
    ],
)
def test_a_failure_is_read_from_the_class_or_the_status(error: Exception, failure: StoreFailure) -> None:
    assert failure_of(error) is failure


def test_an_error_has_the_first_line_and_the_next_step() -> None:
    error = GenericError(GENERIC.format("403 Forbidden") + "\n\nCaused by:\n    more")

    assert str(store_error(error, "the object store did not give s3://b/k", "check the keys")) == (
        f"the object store did not give s3://b/k: {GENERIC.format('403 Forbidden')}; check the keys"
    )
    assert str(store_error(TimeoutError(), "x")) == "x: TimeoutError"
