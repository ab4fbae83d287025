"""Decides by a listing whether an object is there, as S3 answers with 403 in place of 404 to some roles. Pure.

Those roles may list some folders only. Each side makes the request with its own client, and knows its own errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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
