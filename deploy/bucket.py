"""Create the bucket of `docker-compose.yml`; LocalStack runs this when it is ready."""

import boto3

s3 = boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:4566",
    region_name="us-east-1",
    aws_access_key_id="dagfusion",
    aws_secret_access_key="dagfusion",  # noqa: S106  # LocalStack takes any
)
s3.create_bucket(Bucket="dagster-parquet-data")
