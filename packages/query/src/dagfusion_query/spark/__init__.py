"""Statements on a Spark Connect server: their text in Spark's SQL, its protocol, and the batches of their results."""

from dagfusion_query.errors import needs

SPARK = "spark"  # the path of a query that ran there


def import_client() -> None:
    """Import what the protocol needs.

    Raises:
        MissingExtraError: The extra `spark` is not installed.
    """
    with needs("spark", "DAGFUSION_SPARK_REMOTE"):
        import grpc  # noqa: F401, PLC0415  # an extra
