"""The object stores that files live in, made from a URL and the service's settings."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import obstore
from datafusion import SessionContext
from datafusion.object_store import AmazonS3
from obstore.store import LocalStore, ObjectStore, S3Store

from dagfusion_query.catalog.entry import object_path, store_url
from dagfusion_query.errors import StoreUnavailableError
from dagfusion_query.settings import Settings

_PROBE = {"connect_timeout": "2s", "timeout": "5s"}


class Stores:
    """S3 buckets and the local file system, for DataFusion and for direct requests.

    Args:
        settings: Endpoint, region and credentials; AWS's own environment variables and instance roles fill what is
            not set.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[str, Any] = {}
        self._direct: dict[str, ObjectStore] = {}
        self._lock = Lock()

    @property
    def endpoint(self) -> str | None:
        """The S3 endpoint, None for AWS itself."""
        return self._settings.endpoint_url

    def register(self, context: SessionContext, url: str) -> None:
        """Give a DataFusion context the store behind a URL, so that plans over it can run.

        Raises:
            StoreUnavailableError: The store cannot be set up from the settings.
        """
        scheme, bucket = _parts(url)
        if scheme == "file":
            return  # every context has the local file system
        with self._lock:
            if url not in self._stores:
                self._stores[url] = self._datafusion_store(scheme, bucket)
        context.register_object_store(f"{scheme}://", self._stores[url], bucket or None)

    def head(self, uri: str) -> Mapping[str, Any]:
        """Return what the store says of one object: size, e_tag, last_modified.

        Raises:
            FileNotFoundError: There is no such object.
            obstore.exceptions.BaseError: The store did not answer, or refused.
        """
        return dict(obstore.head(self.direct(uri), object_path(uri)))

    def direct(self, uri: str) -> ObjectStore:
        """Return an obstore client for the store of a URI: one quick try, no long retries."""
        url = store_url(uri)
        with self._lock:
            if url not in self._direct:
                self._direct[url] = self._obstore(url)
            return self._direct[url]

    def _datafusion_store(self, scheme: str, bucket: str) -> Any:
        if scheme != "s3":
            raise StoreUnavailableError(f"a file is in {scheme}://{bucket}; DagFusion reads s3:// and file://")
        s = self._settings
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

    def _obstore(self, url: str) -> ObjectStore:
        scheme, bucket = _parts(url)
        if scheme == "file":
            return LocalStore("/")
        s = self._settings
        options: dict[str, Any] = {
            "region": s.region,
            "access_key_id": s.access_key_id,
            "secret_access_key": s.secret_access_key,
            "session_token": s.session_token,
            "endpoint": s.endpoint_url,
        }
        http = {**_PROBE, "allow_http": bool(s.endpoint_url and s.endpoint_url.startswith("http://"))}
        set_options = {key: value for key, value in options.items() if value is not None}
        return S3Store(bucket, client_options=http, retry_config={"max_retries": 0}, **set_options)  # type: ignore[arg-type]


def _parts(url: str) -> tuple[str, str]:
    """Return the scheme and the bucket of a store's URL."""
    scheme, _, rest = url.partition("://")
    return scheme, rest.rstrip("/")
