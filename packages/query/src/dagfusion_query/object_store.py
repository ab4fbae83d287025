"""Direct requests to an object store: an obstore client made from a URL and settings."""

from typing import Any

from obstore.store import LocalStore, ObjectStore, S3Store

from dagfusion_query.settings import Settings


def open_store(
    url: str, settings: Settings, *, connect_timeout: str, timeout: str, max_retries: int = 0
) -> ObjectStore:
    """Return a client for a store.

    Args:
        url: `s3://bucket/` or `file:///`.
        settings: Endpoint, region and credentials.
        connect_timeout: How long connecting may take, such as `2s`.
        timeout: How long a request may take.
        max_retries: How often a request is tried again.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return LocalStore("/")
    options: dict[str, Any] = {
        "region": settings.region,
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
        "session_token": settings.session_token,
        "endpoint": settings.endpoint_url,
    }
    http: Any = {"connect_timeout": connect_timeout, "timeout": timeout}
    http["allow_http"] = bool(settings.endpoint_url and settings.endpoint_url.startswith("http://"))
    set_options = {key: value for key, value in options.items() if value is not None}
    return S3Store(rest.rstrip("/"), client_options=http, retry_config={"max_retries": max_retries}, **set_options)
