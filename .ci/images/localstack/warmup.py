"""Start LocalStack once while its image is built and call each service, so that the image holds their bytecode."""

import os
import subprocess
import sys
import time
import urllib.request

import boto3

ENDPOINT = "http://127.0.0.1:4566"
FIRST_CALLS = {
    "s3": "list_buckets",
    "iam": "list_roles",
    "sts": "get_caller_identity",
    "secretsmanager": "list_secrets",
    "cloudwatch": "list_metrics",
    "cloudformation": "list_stacks",
}

services = sys.argv[1].split(",")
server = subprocess.Popen(
    [sys.executable, "-m", "localstack.runtime.main"], env={**os.environ, "SERVICES": sys.argv[1]}
)
deadline = time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen(f"{ENDPOINT}/_localstack/health", timeout=2)
        break
    except OSError as error:
        if time.monotonic() > deadline or server.poll() is not None:
            raise SystemExit(f"LocalStack did not answer at {ENDPOINT}: {error}") from error
        time.sleep(0.5)
for service in services:
    client = boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    getattr(client, FIRST_CALLS[service])()
server.terminate()
server.wait(60)
