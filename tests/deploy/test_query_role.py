"""What the query service does with its folders of the bucket, against the role that `deploy/` gives it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import PermissionDeniedError
from obstore.store import MemoryStore

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_interop.iceberg import metadata_writer
from dagfusion_interop.iceberg.known_metadata import SURELY_KEPT_S
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_query.catalog import checkpoint
from dagfusion_query.settings import Settings
from tests.deploy.policies import allows
from tests.deploy.templates import Resolver, resources, template
from tests.interop.iceberg.reading import Part, folded, publish
from tests.query.catalog.checkpointing import Service, add
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog

pytestmark = pytest.mark.usefixtures("heavy")  # reads a template with cfn-lint
ARN = "arn:aws:s3:::bucket"
ICEBERG = "s3://bucket/_iceberg"
HOURS = 3600.0


class Bucket:
    """Stands for the functions of obstore over one bucket, whose requests the policies of a role allow or deny.

    As in S3, a request for a missing object is denied if the role may not list the whole bucket.

    Attributes:
        done: The actions that were allowed, each with the first component of its key.
    """

    def __init__(self, policies: Sequence[Mapping[str, Any]]) -> None:
        self.done: set[tuple[str, str]] = set()
        self._policies = policies

    def get(self, store: MemoryStore, key: str) -> Any:
        self._ask("s3:GetObject", key, f"{ARN}/{key}")
        try:
            return obstore.get(store, key)
        except FileNotFoundError:
            self._ask("s3:ListBucket", key, ARN)
            raise

    def put(self, store: MemoryStore, key: str, content: bytes, **options: Any) -> Any:
        self._ask("s3:PutObject", key, f"{ARN}/{key}")
        return obstore.put(store, key, content, **options)

    def delete(self, store: MemoryStore, keys: Sequence[str]) -> None:
        for key in keys:
            self._ask("s3:DeleteObject", key, f"{ARN}/{key}")
        obstore.delete(store, keys)

    def list(self, store: MemoryStore, prefix: str, **options: Any) -> Iterator[Sequence[Mapping[str, Any]]]:
        self._ask("s3:ListBucket", prefix, ARN, {"s3:prefix": prefix})
        listing: Iterator[Sequence[Mapping[str, Any]]] = obstore.list(store, prefix, **options)
        return listing

    def _ask(self, action: str, key: str, resource: str, context: Mapping[str, str] | None = None) -> None:
        if not allows(self._policies, action, resource, context):
            raise PermissionDeniedError(f"403 Forbidden: AccessDenied: {action} {key}")
        self.done.add((action, key.partition("/")[0]))


@pytest.fixture(scope="module")
def policies(root: Path) -> Mapping[str, list[Any]]:
    """The policies of each role, by its logical name."""
    storage = template(root / "deploy/aws/storage-and-roles.yaml")
    resolve = Resolver(storage, {"Environment": "uat", "BucketName": "bucket", "Prefix": "tables"})
    roles = resources(storage, "AWS::IAM::Role")
    return {name: [resolve(one["PolicyDocument"]) for one in role["Policies"]] for name, role in roles.items()}


def publish_for_hours(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish versions of a table, at once and after times in which the vacuum may have deleted metadata."""
    store, now = MemoryStore(), Clock()
    monkeypatch.setattr(metadata_writer, "obstore", bucket)
    monkeypatch.setattr(metadata_writer, "open_store", lambda *_, **__: store)
    publisher = Publisher(ICEBERG, Settings(), clock=now)
    try:
        for version, wait_s in enumerate((0.0, SURELY_KEPT_S / 3, SURELY_KEPT_S + 1, 10.0, 3 * HOURS), start=1):
            now.now += wait_s
            parts = [Part([f"S{n:02}"], {"id": "int64"}, {}, number=n) for n in range(version)]
            published = publish(publisher, folded(parts, {"state": "string"}, first=100 * version))
            assert published.uri.startswith(f"{ICEBERG}/")
    finally:
        publisher.close()


def test_the_query_service_publishes_iceberg_metadata_for_hours(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(policies["QueryRole"])
    publish_for_hours(bucket, monkeypatch)
    assert bucket.done == {("s3:PutObject", "_iceberg"), ("s3:ListBucket", "_iceberg")}


def test_a_role_that_may_not_list_iceberg_metadata_cannot_publish_it_for_hours(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above can fail."""
    listing = {"Effect": "Deny", "Action": "s3:ListBucket", "Resource": ARN}
    bucket = Bucket([*policies["QueryRole"], {"Statement": [listing]}])
    with pytest.raises(StoreUnavailableError):
        publish_for_hours(bucket, monkeypatch)


def test_the_query_service_keeps_its_checkpoint(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, store, log, now = Bucket(policies["QueryRole"]), MemoryStore(), PurgeableLog(), Clock()
    monkeypatch.setattr(checkpoint, "obstore", bucket)
    service = Service(log, store, now)
    for _ in range(4):  # each replaces the rows of the one before, which are deleted an hour after
        add(log, "CA")
        now.now += 2 * checkpoint.GRACE_S
        assert service.look()
    service.catalog.close()
    another = Service(log, store, now)
    another.look()
    another.catalog.close()
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket")
    assert bucket.done == {(action, "_catalog") for action in actions}
