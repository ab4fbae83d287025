"""Where the assets are stored: one bucket, which the environment names."""

import os

import dagster as dg

from dagfusion_pipeline import PartitionedS3ParquetIOManager


@dg.definitions
def resources() -> dg.Definitions:
    """The IO manager of every asset. Without `AWS_ENDPOINT_URL` the bucket is at AWS."""
    hive = PartitionedS3ParquetIOManager(
        bucket=dg.EnvVar("S3_BUCKET"), prefix="weather", endpoint_url=os.environ.get("AWS_ENDPOINT_URL")
    )
    return dg.Definitions(resources={"io_manager": hive})
