"""The Iceberg metadata of a table that this process has written, and for how long the vacuum keeps it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dagfusion_interop.iceberg.manifest_list import WrittenManifest
from dagfusion_interop.iceberg.manifest_reuse import GroupedFiles
from dagfusion_interop.iceberg.past_states import PastState
from dagfusion_interop.iceberg.table_metadata import WrittenSnapshot

SURELY_KEPT_S = 1800.0  # half of the shortest time for which the vacuum keeps replaced metadata
_SNAPSHOTS = 16  # of one table that are remembered

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class KnownMetadata:
    """The Iceberg manifests and snapshots of a table that were written last.

    Manifests are in mappings by the identity of their content. Times are in seconds of the clock.

    Attributes:
        clock: Returns seconds of a monotonic clock.
        lock: Held while an attribute is read or changed.
        groups: How the files of the current version are grouped. It does not say what is in the object store.
        manifests: The manifests of the current version of the table.
        before: The manifests of the version before the current one.
        past: The manifests of the past snapshot that was written last.
        of_child: The manifests of the snapshot with a parent that was written last.
        states: The past states that were written or needed last, by their latest events.
        children: The snapshots with a parent that were written last, by the ids of parent and snapshot.
        named_s: When current metadata with `manifests` was last written.
        past_s: When the manifests of past snapshots were last written or reused. Current metadata may not name them.
        states_s: When metadata with a snapshot was last written, by the URI of the snapshot's manifest list. Has those
            of at least the last `SURELY_KEPT_S`.
    """

    clock: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)
    groups: GroupedFiles | None = None
    manifests: Mapping[str, WrittenManifest] = field(default_factory=dict)
    before: Mapping[str, WrittenManifest] = field(default_factory=dict)
    past: Mapping[str, WrittenManifest] = field(default_factory=dict)
    of_child: Mapping[str, WrittenManifest] = field(default_factory=dict)
    states: OrderedDict[int, PastState] = field(default_factory=OrderedDict)
    children: OrderedDict[tuple[int, int], WrittenSnapshot] = field(default_factory=OrderedDict)
    named_s: float = float("-inf")
    past_s: float = float("-inf")
    states_s: dict[str, float] = field(default_factory=dict)

    @property
    def known(self) -> Mapping[str, WrittenManifest]:
        """All known manifests."""
        return {**self.manifests, **self.before, **self.past, **self.of_child}

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Drop all manifests and snapshots whose object is gone.

        Args:
            is_gone: Returns True if the object with a URI is gone.
        """

        def kept(known: Mapping[str, WrittenManifest]) -> Mapping[str, WrittenManifest]:
            return {key: one for key, one in known.items() if not is_gone(one.uri)}

        self.manifests, self.before, self.past = kept(self.manifests), kept(self.before), kept(self.past)
        self.of_child = kept(self.of_child)
        self.states = OrderedDict((key, one) for key, one in self.states.items() if not is_gone(one.written.list_uri))
        self.children = OrderedDict((key, one) for key, one in self.children.items() if not is_gone(one.list_uri))
        left = {
            *(one.written.list_uri for one in self.states.values()),
            *(one.list_uri for one in self.children.values()),
        }
        self.states_s = {uri: at_s for uri, at_s in self.states_s.items() if uri in left}

    def note_named(self, snapshots: Sequence[WrittenSnapshot]) -> None:
        """Record the time at which metadata with these snapshots was written; drop times that no longer matter."""
        now_s = self.clock()
        recent = {uri: at_s for uri, at_s in self.states_s.items() if now_s - at_s < SURELY_KEPT_S}
        self.states_s = recent | dict.fromkeys((one.list_uri for one in snapshots), now_s)

    def is_surely_kept(self, snapshot: WrittenSnapshot) -> bool:
        """Return False if the vacuum may have deleted a snapshot, because no recent metadata names it."""
        return self.clock() - self.states_s.get(snapshot.list_uri, float("-inf")) < SURELY_KEPT_S


def keep_last(kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Add a value, and drop the oldest values above the limit."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _SNAPSHOTS:
        kept.popitem(last=False)
