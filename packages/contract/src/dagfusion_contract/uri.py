"""URIs of objects and folders: `s3://bucket/key`, and `file:///path` for files. Nothing is unescaped. Pure."""

S3 = "s3://"
LOCAL_FILES = "file:///"
S3_SCHEMES = ("s3", "s3a", "s3n")  # as Hadoop's clients write them, too
_ESCAPED = frozenset("?#%")  # which readers of URIs treat in different ways


def is_s3(uri: str) -> bool:
    """Return True if a URI names an object of S3."""
    return uri.startswith(S3)


def scheme_of(text: str) -> str:
    """Return the scheme of a URI in lower case, or "" if the text has none."""
    scheme, mark, _ = text.partition("://")
    return scheme.lower() if mark else ""


def local_path(uri: str) -> str:
    """Return the path of a local file.

    >>> [local_path(uri) for uri in ("file:///lake/a", "file://localhost/lake/a", "file:/lake/a")]
    ['/lake/a', '/lake/a', '/lake/a']
    """
    path = uri[len("file:") :]
    return path[2:].removeprefix("localhost") if path.startswith("//") else path


def object_path(uri: str) -> str:
    """Return what names an object inside its store: the key, or the path without its leading slash.

    >>> object_path("s3://lake/a/b.parquet")
    'a/b.parquet'
    """
    _, _, rest = uri.partition("://")
    _, _, path = rest.partition("/")
    return path


def store_url(uri: str) -> str:
    """Return the part of a URI that names its store: `s3://bucket/`, or `file:///`."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def store_parts(url: str) -> tuple[str, str]:
    """Return the scheme and the bucket of a store's URL."""
    scheme, _, rest = url.partition("://")
    return scheme, rest.rstrip("/")


def bucket_url(bucket: str) -> str:
    """Return the URL of a bucket, which the URIs of its objects begin with."""
    return f"{S3}{bucket}/"


def is_folder(uri: str, schemes: tuple[str, ...] = ("s3",)) -> bool:
    """Return True if a text is the URI of a folder that every reader understands alike.

    >>> is_folder("s3://lake/_catalog"), is_folder("s3://lake/"), is_folder("file:///lake", ("s3", "file"))
    (True, False, True)
    """
    scheme, bucket = store_parts(store_url(uri))
    is_store = scheme in schemes and (scheme == "s3") == bool(bucket)
    return is_store and bool(object_path(uri).strip("/")) and _ESCAPED.isdisjoint(uri)
