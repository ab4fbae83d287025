"""URIs of objects and folders: `s3://bucket/key`, and `file:///path` for files. Pure."""

from typing import NamedTuple

_ESCAPED = frozenset("?#%")  # which readers of URIs treat in different ways


class Uri(NamedTuple):
    """The parts of a URI. Nothing is unescaped.

    Attributes:
        bucket: empty for a file.
        key: the object's key, or a path without its leading slash.

    >>> Uri.parse("s3://lake/a/b.parquet")
    Uri(scheme='s3', bucket='lake', key='a/b.parquet')
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "Uri":
        """Split a URI. A text that is none has no scheme, or no key."""
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.partition("/")
        return cls(scheme, bucket, key)

    @property
    def store(self) -> str:
        """What names the store: `s3://bucket/`, or `file:///`."""
        return f"{self.scheme}://{self.bucket}/"


def is_in_s3(text: str) -> bool:
    """Return True if a URI names a bucket of S3."""
    return text.startswith("s3://")


def is_folder(text: str, schemes: tuple[str, ...] = ("s3",)) -> bool:
    """Return True if a text is the URI of a folder that every reader understands alike.

    >>> is_folder("s3://lake/_catalog"), is_folder("s3://lake/"), is_folder("file:///lake", ("s3", "file"))
    (True, False, True)
    """
    uri = Uri.parse(text)
    is_bucket = (uri.scheme == "s3") == bool(uri.bucket)
    return uri.scheme in schemes and is_bucket and bool(uri.key.strip("/")) and _ESCAPED.isdisjoint(text)
