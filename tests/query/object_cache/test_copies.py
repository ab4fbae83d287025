"""Local copies: whole or not there, bounded, and kept while a run needs them."""

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.object_cache import eviction
from dagfusion_query.object_cache.copies import BLOCK_END_BYTES, DIGEST_BYTES, Copies, _locked, copy_key
from dagfusion_query.object_cache.eviction import Entry
from tests.tiers import examples
from tests.waiting import eventually

SIZE = 4096 - DIGEST_BYTES  # a copy takes one block of the disk


def put(copies: Copies, name: str, content: bytes | None = None) -> str:
    key = copy_key(name)
    content = name.encode().ljust(SIZE, b"-") if content is None else content
    copies.put(key, content, hashlib.sha256(content).digest())
    return key


OBJECT_BYTES = 100 * 4096  # of which a block has three extents
EXTENTS = [(10 * 4096, b"pages" * 600), (OBJECT_BYTES - 500, b"index"), (OBJECT_BYTES - 50, b"footer" * 8 + b"--")]


def put_block(copies: Copies, name: str) -> str:
    key = copy_key(name)
    copies.put_block(key, OBJECT_BYTES, EXTENTS)
    return key


def evict(copies: Copies) -> None:
    with copies._evicting, _locked(copies._lock, fcntl.LOCK_EX):  # another object's thread may evict there, too
        copies._eviction.run(copies._eviction.listed(), frozenset(copies._pinned()))


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    """A cache whose evictions are asked for by the test."""
    made = Copies(tmp_path / "copies", 1000 * (SIZE + DIGEST_BYTES))
    made._eviction._wrote = 0
    return made


def test_a_copy_is_its_object_then_a_digest(copies: Copies) -> None:
    key = put(copies, "a", b"content")

    assert copies.has(key, len(b"content"))
    assert Path(copies.path(key)).read_bytes() == b"content" + hashlib.sha256(b"content").digest()
    assert not copies.has(copy_key("b"), 7)


@pytest.mark.parametrize("what", ["altered", "cut", "longer", "empty", "zeroed"])
@pytest.mark.parametrize("is_new_process", [False, True])
def test_a_copy_that_is_not_whole_is_removed(copies: Copies, what: str, is_new_process: bool) -> None:  # noqa: FBT001
    key = put(copies, "a", b"content")
    path = Path(copies.path(key))
    stored = path.read_bytes()
    changed = {
        "altered": b"C" + stored[1:],
        "cut": stored[:-1],
        "longer": stored + b"x",
        "empty": b"",
        "zeroed": bytes(len(stored)),
    }[what]
    path.write_bytes(changed)
    os.utime(path, ns=(1, 1))  # a clock may be coarse
    reader = Copies(copies.folder, copies.limit_bytes) if is_new_process else copies

    assert not reader.has(key, len(b"content"))
    assert not path.exists()


def test_a_block_has_its_bytes_at_their_places(copies: Copies) -> None:
    key = put_block(copies, "a")

    assert copies.has(key, OBJECT_BYTES, is_block=True)
    stored = Path(copies.path(key)).read_bytes()
    assert len(stored) == OBJECT_BYTES + BLOCK_END_BYTES
    for start, content in EXTENTS:
        assert stored[start : start + len(content)] == content
    assert len(stored.replace(b"\0", b"")) < 4096
    assert not copies.has(copy_key("b"), OBJECT_BYTES, is_block=True)
    assert Path(copies.path(key)).stat().st_blocks * 512 < OBJECT_BYTES // 10


CHANGED = [*(start for start, _ in EXTENTS), OBJECT_BYTES - 1, OBJECT_BYTES, -1]


@pytest.mark.parametrize(
    ("place", "change"), [*product(CHANGED, ["altered", "zeroed", "huge", "cut"]), (None, "all zeroed")]
)
def test_a_block_that_is_not_whole_is_removed(copies: Copies, place: int | None, change: str) -> None:
    """Its bytes, their places and the digest."""
    key = put_block(copies, "a")
    path = Path(copies.path(key))
    stored = bytearray(path.read_bytes())
    if place is None:
        stored[:] = bytes(len(stored))
    elif change == "cut":
        del stored[place:]
    else:
        old = stored[place]
        stored[place] = {"altered": old ^ 1, "zeroed": 0, "huge": 255}[change]
        if stored[place] == old:
            stored[place] ^= 2
    path.write_bytes(stored)
    reader = Copies(copies.folder, copies.limit_bytes)

    assert not reader.has(key, OBJECT_BYTES, is_block=True)
    assert not path.exists()


def test_a_block_is_no_copy_of_its_object(copies: Copies) -> None:
    """Their ends have different sizes, and their names are different, too."""
    block, whole = put_block(copies, "a"), put(copies, "b")
    reader = Copies(copies.folder, copies.limit_bytes)
    assert not reader.has(block, OBJECT_BYTES)
    assert not reader.has(whole, SIZE, is_block=True)


@pytest.mark.usefixtures("heavy")
def test_the_room_of_a_block_is_what_it_takes_of_the_disk(copies: Copies) -> None:
    """A hundred of them have ten times the size of the limit together, and take three blocks of the disk each."""
    keys = [put_block(copies, str(number)) for number in range(100)]
    evict(copies)
    assert all(copies.has(key, OBJECT_BYTES, is_block=True) for key in keys)

    for number in range(100, 500):
        put_block(copies, str(number))
    evict(copies)
    taken = sum(path.stat().st_blocks * 512 for path in copies.folder.glob("objects/*/*"))
    assert copies.limit_bytes / 2 < taken <= copies.limit_bytes


def test_a_copy_that_an_execution_has_pinned_is_not_discarded(copies: Copies) -> None:
    pinned, free = put_block(copies, "a"), put_block(copies, "b")
    other = Copies(copies.folder, copies.limit_bytes)
    with copies.pinned([pinned]):
        other.discard([pinned, free, copy_key("c")])
        assert Path(copies.path(pinned)).exists()
        assert not Path(copies.path(free)).exists()
    other.discard([pinned])
    assert not Path(copies.path(pinned)).exists()


@pytest.mark.parametrize(
    ("size", "blocks", "room"), [(9000, 8, 4096), (9000, 0, 12288), (9000, 24, 12288), (0, 0, 4096)]
)
def test_a_file_system_may_not_say_how_much_room_a_copy_takes(size: int, blocks: int, room: int) -> None:
    status: Any = SimpleNamespace(st_size=size, st_blocks=blocks)
    assert eviction._room(status) == room


def test_versions_have_names_of_their_own() -> None:
    assert len({copy_key("a", "b", "c"), copy_key("ab", "", "c"), copy_key("a", "b", "d"), copy_key("a", "bc")}) == 4


@pytest.mark.usefixtures("heavy")
def test_copies_stay_within_their_bound(copies: Copies) -> None:
    for number in range(2000):
        put(copies, str(number))
    evict(copies)

    sizes = [path.stat().st_size for path in copies.folder.glob("objects/*/*")]
    assert 0 < sum(sizes) <= copies.limit_bytes


def test_copies_that_come_during_an_eviction_stay_within_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(tmp_path / "copies", 20 * 4096)
    listed, coming = copies._eviction.listed, [str(number) for number in range(60)]

    def listed_before_more_come() -> list[Entry]:
        entries = [*listed()]
        while coming:
            put(copies, coming.pop())
        return entries

    monkeypatch.setattr(copies._eviction, "listed", listed_before_more_come)
    put(copies, "first")
    assert eventually(lambda: not coming and len([*copies.folder.glob("objects/*/*")]) <= 20)


@pytest.mark.usefixtures("heavy")
def test_one_scan_of_everything_does_not_push_out_what_is_asked_for_often(copies: Copies) -> None:
    hot = [put(copies, f"hot {number}") for number in range(100)]
    assert all(copies.has(key, SIZE) for _ in range(3) for key in hot)

    for scan in range(5):
        for number in range(1000):
            put(copies, f"scan {scan} {number}")
        evict(copies)

    assert sum(copies.has(key, SIZE) for key in hot) == len(hot)


@pytest.mark.usefixtures("heavy")
def test_what_comes_back_soon_stays(copies: Copies) -> None:
    first = put(copies, "first")
    for number in range(1100):
        put(copies, str(number))
    evict(copies)
    assert not copies.has(first, SIZE)

    put(copies, "first")
    for number in range(5000, 5900):
        put(copies, str(number))
    evict(copies)

    assert copies.has(first, SIZE)


@pytest.mark.usefixtures("heavy")
def test_what_a_run_needs_is_kept(copies: Copies) -> None:
    needed = [put(copies, f"needed {number}") for number in range(50)]
    coming = copy_key("coming")
    with copies.pinned([*needed, coming]):
        put(copies, "coming")
        for number in range(3000):
            put(copies, str(number))
        evict(Copies(copies.folder, copies.limit_bytes))

        assert all(copies.has(key, SIZE) for key in [*needed, coming])
    assert list(copies.folder.glob("pins/*")) == []


def test_runs_start_while_copies_are_listed(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    listing, go_on, free = threading.Event(), threading.Event(), threading.Event()

    def listed() -> list[Entry]:
        listing.set()
        go_on.wait()
        copies._eviction._wrote = 0
        return []

    def start_a_run() -> None:
        with copies.pinned([copy_key("a")]):
            free.set()

    monkeypatch.setattr(copies._eviction, "listed", listed)
    copies._eviction._wrote = None  # so that the next copy starts an eviction
    put(copies, "a")
    listing.wait()
    threading.Thread(target=start_a_run, daemon=True).start()
    try:
        assert free.wait(60)
    finally:
        go_on.set()
    with copies._evicting:  # until the eviction has ended
        pass


@pytest.mark.usefixtures("processes")
def test_the_pins_of_a_killed_process_are_removed(copies: Copies) -> None:
    key = put(copies, "a")
    code = (
        "import sys, os, signal; from pathlib import Path; from dagfusion_query.object_cache.copies import Copies\n"
        "with Copies(Path(sys.argv[1]), 10**9).pinned([sys.argv[2]]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(copies.folder), key], check=False)  # noqa: S603
    assert len(list(copies.folder.glob("pins/*"))) == 1

    evict(copies)

    assert list(copies.folder.glob("pins/*")) == []


def test_an_object_that_cannot_be_written_leaves_nothing(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        put(copies, "a")
    monkeypatch.undo()

    assert list(copies.folder.glob("objects/*/*")) == []


@pytest.mark.parametrize(
    ("stray", "stays"),
    [
        ("objects/.DS_Store", True),
        ("objects/folder/file", True),
        ("objects/ab/.DS_Store", True),
        ("objects/ab/folder/file", True),
        (f"objects/ab/{'c' * 30}/file", True),  # a folder in a copy's place
        (f"objects/{copy_key('0')[:2]}", False),  # a file in the place of a folder of copies
        ("pins/.DS_Store", False),
        ("pins/folder/file", True),
        ("ghosts/file", True),
    ],
)
def test_strays_do_not_stop_eviction(
    tmp_path: Path,
    stray: str,
    stays: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    copies = Copies(tmp_path, 50 * (SIZE + DIGEST_BYTES))
    copies._eviction._wrote = -(10**9)  # evictions are asked for by the test
    path = copies.folder / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"stray")

    keys = [put(copies, str(number)) for number in range(100)]
    copies._evicting.acquire()
    copies._evict()

    left = [key for key in keys if copies.has(key, SIZE)]
    assert 0 < len(left) <= 50
    assert path.is_file() == stays
    assert "cannot be removed" not in caplog.text or stray == "ghosts/file"


@pytest.mark.parametrize("place", ["copy", "shard"])
def test_a_copy_takes_its_place_back(copies: Copies, place: str) -> None:
    path = Path(copies.path(copy_key("a")))
    if place == "copy":
        (path / "folder").mkdir(parents=True)
    else:
        path.parent.write_bytes(b"stray")
    assert not copies.has(copy_key("a"), SIZE)

    assert copies.has(put(copies, "a"), SIZE)


@settings(max_examples=examples(30))
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_any_order_of_puts_and_evictions_keeps_copies_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    copies = Copies(tmp_path_factory.mktemp("copies"), 10 * (SIZE + DIGEST_BYTES))
    for number, is_eviction in steps:
        key = copy_key(str(number))
        if not copies.has(key, SIZE):
            put(copies, str(number))
        if is_eviction:
            copies._evicting.acquire()  # one that runs by itself ends first; `_evict` releases it
            copies._evict()
        if copies.has(key, SIZE):
            assert Path(copies.path(key)).read_bytes().startswith(str(number).encode() + b"-")
