"""A listing tells whether an object is there, with as few of its pages as that takes."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.store_failure import Listing

names = st.text("ab./\U0001f600\uffff", min_size=1, max_size=5).map(lambda name: name.strip("/") or "a")


def pages_of(keys: list[str], size: int, taken: list[int]) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        taken.append(start)
        yield keys[start : start + size]


@given(st.lists(names, min_size=1), st.integers(1, 3), st.data())
def test_what_is_not_listed_is_missing(folder: list[str], size: int, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(folder) | names)
    listing = Listing.of(key)
    listed = sorted(name for name in {*folder} if name > (listing.after or ""))
    assert listing.lacks(pages_of(listed, size, [])) == (key not in folder)
    assert key.startswith(listing.folder or "")


@pytest.mark.parametrize(
    ("key", "lacking", "pages"),
    [("t/c", False, 2), ("t/d", True, 2), ("t/e", False, 2), ("t/f", False, 3), ("t/h", True, 3)],
)
def test_an_object_is_looked_for_on_later_pages(key: str, pages: int, *, lacking: bool) -> None:
    taken: list[int] = []
    assert Listing.of(key).lacks(pages_of(["t/a", "t/b", "t/c", "t/e", "t/f", "t/g"], 2, taken)) == lacking
    assert len(taken) == pages


def test_a_listing_of_nothing_lacks_an_object() -> None:
    assert Listing.of("t/a").lacks([])
    assert Listing.of("t/a").lacks([[], []])
    assert not Listing.of("t/a").lacks([[], ["t/a"]])


@pytest.mark.parametrize(
    ("key", "listing"),
    [
        ("a", Listing("a", None, None)),
        ("t/a", Listing("t/a", "t", "t")),
        ("t/ab", Listing("t/ab", "t", "t/a")),
        ("t/..a", Listing("t/..a", "t", "t")),
        ("/t/ab", Listing("t/ab", "t", "t/a")),
        ("t/ab/", Listing("t/ab", "t", "t/a")),
        ("/a", Listing("a", None, None)),
    ],
)
def test_a_listing_begins_before_the_object_that_a_client_requests(key: str, listing: Listing) -> None:
    assert Listing.of(key) == listing
