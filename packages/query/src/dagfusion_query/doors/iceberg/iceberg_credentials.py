"""What an environment's operator lets clients of the Iceberg door have of its object store."""

from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.object_store import store_keys


def storage_configuration(environment: EnvironmentConfig) -> dict[str, str]:
    """Return the client's settings of the object store, by the names of the protocol; none without a setting.

    Only `iceberg_credentials = "keys"` gives the environment's own keys away. They read all of its buckets, whatever
    the token of the caller may read.
    """
    settings = environment.settings
    if environment.iceberg_credentials != "keys" or not settings.access_key_id or not settings.secret_access_key:
        return {}
    keys = store_keys(settings)
    found = {
        "s3.access-key-id": keys["access_key_id"],
        "s3.secret-access-key": keys["secret_access_key"],
        "s3.session-token": keys["session_token"],
        "s3.endpoint": settings.endpoint_url,
        "s3.path-style-access": "true" if settings.endpoint_url else None,
        "s3.region": settings.region,
        "client.region": settings.region,
    }
    return {name: value for name, value in found.items() if value}
