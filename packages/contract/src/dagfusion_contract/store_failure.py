"""Reads the error of an object store, and decides whether it means that an object is absent.

Each side chooses the class of its error in one place: the query side in `object_store.failure_of` and `store_error`,
the pipeline in `ObjectStore.failed` of `store.py`. There are two places because this package does not depend on
obstore, whose exceptions decide the class, and because the two packages have different errors: the text of a query's
error names the next step for its user. For the same reason each side requests a `Listing` with its own client.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_STATUS = re.compile(r"status code: ([34]\d\d) ([A-Za-z ]*)")  # the only place where some errors have it
_ARCHIVED = "InvalidObjectState"  # S3 answers a HEAD of an archived object as of any other
_NO_BUCKET = "NoSuchBucket"


def status_of(error: BaseException) -> tuple[int, str] | None:
    """Return the HTTP status that an error names, such as `(403, "Forbidden")`.

    >>> status_of(OSError("response error, after 1 retries: status code: 403 Forbidden"))
    (403, 'Forbidden')
    """
    found = _STATUS.search(str(error))
    return found and (int(found[1]), found[2].strip())


def is_archived(error: BaseException) -> bool:
    """Return True if S3 refused an object because it has to be restored first.

    Source: `InvalidObjectState` in the list of error codes of the Amazon S3 API.
    """
    return _ARCHIVED in str(error)


def is_without_bucket(error: BaseException) -> bool:
    """Return True if the bucket does not exist. A HEAD response cannot tell a missing bucket from a missing object."""
    return _NO_BUCKET in str(error)


def archived_text(where: str, cure: str) -> str:
    """Return the message about an archived object.

    Args:
        where: The object, as the message names it.
        cure: What makes the object again, such as `materialize it again`.
    """
    return (
        f"{where} is in an archive storage class such as GLACIER, from which it cannot be read: restore it "
        f"(aws s3api restore-object), leave the partition out, or {cure}"
    )


def failed_text(error: BaseException, what: str, hint: str = "") -> str:
    """Return the message about a request that a store did not fulfil.

    Args:
        error: As obstore or the file system raised it.
        what: What was not done, such as `could not read s3://lake/a`.
        hint: The next step.
    """
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{what}: {first}{hint and f'; {hint}'}"


@dataclass(frozen=True)
class Listing:
    """The listing that shows whether an object is there.

    Attributes:
        key: The object as obstore requests it: it drops a slash at the start, and one at the end.
        folder: The prefix of the listing; None for the root of the bucket.
        after: The key behind which the listing begins; None for the first key of the folder.
    """

    key: str
    folder: str | None
    after: str | None

    @classmethod
    def of(cls, key: str) -> "Listing":
        """Return the listing for an object, which begins as close before it as obstore can ask for.

        >>> Listing.of("a/b.parquet")
        Listing(key='a/b.parquet', folder='a', after='a/b.parque')
        """
        key = key.removeprefix("/").removesuffix("/")
        # In an offset, obstore takes no name of dots.
        return cls(key, key.rpartition("/")[0] or None, key[:-1].rstrip("./") or None)

    def lacks(self, pages: Iterable[Sequence[str]]) -> bool:
        """Return True if the object is not listed.

        Args:
            pages: The keys on each page. A page is taken only if those before it end before the object.
        """
        for keys in pages:
            if max(keys, default="") >= self.key:
                return self.key not in keys
        return True
