"""What a process knows of the Iceberg metadata of a table that it wrote, and whether it is surely there still."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dagfusion_query.iceberg.manifest_list import WrittenManifest
from dagfusion_query.iceberg.past_states import PastState
from dagfusion_query.iceberg.table_metadata import WrittenSnapshot

SURELY_KEPT_S = 1800.0  # half of the shortest time that the vacuum keeps metadata which was replaced
_SNAPSHOTS = 16  # of a table that are known

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class KnownMetadata:
    """The manifests and snapshots of a table that were written last.

    Attributes:
        clock: Returns seconds, which only grow.
        lock: Held while a state is read or changed.
        manifests: By the identity of their content.
        before: Likewise, of the version before it.
        past: Likewise, of the snapshot of the past that was written last.
        of_child: Likewise, of the snapshot that was written last with its parent.
        states: The states that were written or needed last, by their latest events.
        children: The snapshots that were written last with their parents, by the ids of both.
        named_s: The clock when current metadata with these manifests was written.
        past_s: Likewise, when those of the past were written or reused. No current document may name them.
        states_s: Likewise, when a document with a snapshot was written, by the URIs of their lists.
    """

    clock: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)
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
        """All manifests."""
        return {**self.manifests, **self.before, **self.past, **self.of_child}

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Drop what names an object that is gone, by its URI."""

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
        """Remember that a document with these snapshots was written now."""
        self.states_s |= dict.fromkeys((one.list_uri for one in snapshots), self.clock())

    def is_surely_kept(self, snapshot: WrittenSnapshot) -> bool:
        """Return False for a snapshot that the vacuum may have deleted, because no document named it lately."""
        return self.clock() - self.states_s.get(snapshot.list_uri, float("-inf")) < SURELY_KEPT_S


def keep_last(kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Add a value, and drop the oldest of too many."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _SNAPSHOTS:
        kept.popitem(last=False)
