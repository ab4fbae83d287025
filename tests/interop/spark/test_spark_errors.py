"""What callers read of a Spark Connect server's errors, and what only the log has."""

import re
from collections.abc import Iterator

import grpc
import pytest

from dagfusion_client.errors import QueryError, RemoteEngineError, RemoteEngineUnavailableError
from dagfusion_query.wire import message, uint
from tests.interop.spark.test_spark_connect import batch, batches_of, serving, taken


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INTERNAL, RemoteEngineError),
        (grpc.StatusCode.CANCELLED, RemoteEngineError),
        (grpc.StatusCode.UNAVAILABLE, RemoteEngineUnavailableError),
    ],
)
def test_a_servers_error_is_for_the_log(
    code: grpc.StatusCode, kind: type[QueryError], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield batch([1])
        context.abort(code, "no object at http://store:9000/lake")

    with (
        serving(fail) as (_, statement),
        pytest.raises(kind, match=r"^the Spark engine .* error [0-9a-f]{8}") as raised,
    ):
        taken(batches_of(statement))
    assert type(raised.value) is kind
    assert not {"127.0.0.1", "store", "lake"} & set(re.findall(r"[\w.]+", str(raised.value)))
    reference = re.findall("[0-9a-f]{8}", str(raised.value))[0]
    [logged] = [record.getMessage() for record in caplog.records if reference in record.getMessage()]
    assert "127.0.0.1:" in logged
    assert "no object at http://store:9000/lake" in logged


ANALYSIS = "org.apache.spark.sql.AnalysisException"
SECRETS = ("SELECT secret", "s3://lake/orders", "dft_token", "java.lang.dft_token", "[A_SECRET] s3://lake")


def info(reason: str, domain: str = "org.apache.spark", **metadata: str) -> bytes:
    """Return the details of an error as servers send them."""
    pairs = b"".join(message(3, message(1, key.encode()) + message(2, one.encode())) for key, one in metadata.items())
    found = message(1, reason.encode()) + message(2, domain.encode()) + pairs
    return message(3, message(1, b"type.googleapis.com/google.rpc.ErrorInfo") + message(2, found))


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        (info(ANALYSIS, classes=f'["{ANALYSIS}"]'), "AnalysisException"),
        (info(ANALYSIS, errorClass="UNRESOLVED_COLUMN.WITHOUT_SUGGESTION"), "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION"),
        (info("java.lang.UnsupportedOperationException"), "UnsupportedOperationException"),
        (info(ANALYSIS, "example.org"), "INTERNAL"),
        *((info(text, errorClass=text), "INTERNAL") for text in SECRETS),
        (b"\xff\xff", "INTERNAL"),
        (b"", "INTERNAL"),
    ],
)
def test_what_a_server_calls_an_error_is_named(details: bytes, kind: str) -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()
        context.set_trailing_metadata((("grpc-status-details-bin", uint(1, 13) + details), ("x-secret", "dft_token")))
        context.abort(grpc.StatusCode.INTERNAL, " ".join(SECRETS))

    with serving(fail) as (_, statement), pytest.raises(RemoteEngineError) as raised:
        taken(batches_of(statement))
    text, (reference,) = str(raised.value), re.findall(r"error ([0-9a-f]{8})", str(raised.value))
    assert text == (
        f"the Spark engine cannot run the statement ({kind}): DagFusion's log has the reason as error {reference}, and "
        'engine="local" runs it without Spark'
    )
