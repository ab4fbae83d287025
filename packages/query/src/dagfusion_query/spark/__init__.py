"""Statements on a Spark Connect server: their translation to Spark's SQL, the protocol, and the result batches."""

from dagfusion_query.errors import needs

SPARK = "spark"  # `stats.path` of a query that ran on the server


def import_client() -> None:
    """Import the libraries that the protocol needs.

    Raises:
        MissingExtraError: The extra `spark` is not installed.
    """
    with needs("spark", "DAGFUSION_SPARK_REMOTE"):
        import grpc  # noqa: F401, PLC0415  # an extra
