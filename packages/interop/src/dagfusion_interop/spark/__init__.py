"""Statements on a Spark Connect server: their translation to Spark's SQL, the protocol, and the result batches."""

from dataclasses import dataclass

from dagfusion_client.errors import needs

SPARK = "spark"  # `stats.path` of a query that ran on the server


@dataclass(frozen=True, kw_only=True)
class SparkServer:
    """The Spark Connect server of a service or of an embedded connection.

    Attributes:
        url: `sc://host:port`, with its options; or a reference to a secret that has it.
        catalog: The name of the service's Iceberg catalog there.
        session: The id of the session that all statements share, a UUID.
    """

    url: str
    catalog: str
    session: str


def import_client() -> None:
    """Import the libraries that the protocol needs.

    Raises:
        MissingExtraError: The extra `spark` is not installed.
    """
    with needs("spark", "DAGFUSION_SPARK_REMOTE"):
        import grpc  # noqa: F401, PLC0415  # an extra
