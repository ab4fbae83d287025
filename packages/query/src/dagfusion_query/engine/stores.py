"""The object stores that files live in, made from a URL and the service's settings."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import obstore
from datafusion import SessionContext
from datafusion.object_store import AmazonS3
from obstore.store import ObjectStore

from dagfusion_query.errors import StoreUnavailableError
from dagfusion_query.object_store import object_path, open_store, store_parts, store_url
from dagfusion_query.settings import Settings

_PROBE = {"connect_timeout": "2s", "timeout": "5s", "max_retries": 0}
_FETCH = {"connect_timeout": "5s", "timeout": "30s", "max_retries": 10}


class Stores:
    """S3 buckets and the local file system, for DataFusion and for direct requests.

    Args:
        environments: Endpoint, region and credentials by environment; AWS's own environment variables and instance
            roles fill what is not set.
    """

    def __init__(self, environments: Mapping[str, Settings]) -> None:
        self._environments = environments
        self._stores: dict[str, Any] = {}
        self._direct: dict[tuple[str, str, int], ObjectStore] = {}
        self._lock = Lock()

    def settings(self, environment: str) -> Settings:
        """Return what an environment's stores are made from.

        Raises:
            StoreUnavailableError: Nothing is known of this environment.
        """
        if environment not in self._environments:
            raise StoreUnavailableError(f"there are no settings for the object store of environment {environment!r}")
        return self._environments[environment]

    def register(self, context: SessionContext, environment: str, url: str) -> None:
        """Give a DataFusion context an environment's store, so that plans over it can run.

        Args:
            context: The context.
            environment: The environment's name.
            url: What plans call the store, see `scan_store`.

        Raises:
            StoreUnavailableError: The store cannot be set up from the settings.
        """
        scheme, bucket = store_parts(url)
        if scheme == "file":
            return  # every context has the local file system
        with self._lock:
            if url not in self._stores:
                kind = scheme.rpartition("+")[2]
                self._stores[url] = self._datafusion_store(kind, bucket, self.settings(environment))
        context.register_object_store(f"{scheme}://", self._stores[url], bucket or None)

    def head(self, uri: str, environment: str) -> Mapping[str, Any]:
        """Return what the store says of one object: size, e_tag, last_modified.

        Raises:
            FileNotFoundError: There is no such object.
            obstore.exceptions.BaseError: The store did not answer, or refused.
        """
        return dict(obstore.head(self.direct(uri, environment), object_path(uri)))

    def direct(self, uri: str, environment: str) -> ObjectStore:
        """Return an obstore client for the store of a URI: one quick try, no long retries."""
        return self._client(uri, environment, **_PROBE)

    def fetching(self, uri: str, environment: str) -> ObjectStore:
        """Return an obstore client for the store of a URI that tries a request as often as a scan does."""
        return self._client(uri, environment, **_FETCH)

    def _client(self, uri: str, environment: str, **options: Any) -> ObjectStore:
        key = environment, store_url(uri), options["max_retries"]
        with self._lock:
            if key not in self._direct:
                self._direct[key] = open_store(key[1], self.settings(environment), **options)
            return self._direct[key]

    def _datafusion_store(self, scheme: str, bucket: str, s: Settings) -> Any:
        if scheme != "s3":
            raise StoreUnavailableError(f"a file is in {scheme}://{bucket}; DagFusion reads s3:// and file://")
        try:
            return AmazonS3(
                bucket_name=bucket,
                region=s.region,
                access_key_id=s.access_key_id,
                secret_access_key=s.secret_access_key,
                session_token=s.session_token,
                endpoint=s.endpoint_url,
                allow_http=bool(s.endpoint_url and s.endpoint_url.startswith("http://")),
            )
        except BaseException as error:  # a Rust panic, which is not an Exception
            raise StoreUnavailableError(
                f"the S3 client for bucket {bucket!r} cannot be made: "
                "check AWS_ENDPOINT_URL, AWS_REGION and the AWS_* keys"
            ) from error
