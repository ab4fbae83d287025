"""A tombstone: a partition's rows are gone, as the entry `dagfusion/tombstone` of a materialization. Pure.

Open-source Dagster wipes whole assets only. A tombstone is a partition's latest materialization and names no object, so
every reader of the latest materialization finds it. A later materialization that names an object brings the partition
back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagfusion_contract.errors import MalformedRecordError
from dagfusion_contract.record import versioned

TOMBSTONE_ENTRY = "dagfusion/tombstone"
TOMBSTONE_VERSION = 1
MAX_REASON = 1_000  # characters


@dataclass(frozen=True)
class Tombstone:
    """A partition whose rows are gone.

    Attributes:
        reason: Why, for people.
    """

    reason: str


def tombstone_entry(tombstone: Tombstone) -> dict[str, Any]:
    """Return the entry `dagfusion/tombstone`.

    >>> tombstone_entry(Tombstone("wiped"))
    {'version': 1, 'reason': 'wiped'}
    """
    return {"version": TOMBSTONE_VERSION, "reason": tombstone.reason[:MAX_REASON]}


def read_tombstone(record: object) -> Tombstone:
    """Read an entry.

    Args:
        record: The entry, parsed from JSON.

    Raises:
        RecordVersionError: Its version is not 1.
        MalformedRecordError: It breaks the contract; the message names the field.
    """
    found: Mapping[str, Any] = versioned(record, TOMBSTONE_ENTRY, TOMBSTONE_VERSION)
    reason = found.get("reason")
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise MalformedRecordError(
            f"{TOMBSTONE_ENTRY}.reason must be text of at most {MAX_REASON} characters, got {reason!r:.200}"
        )
    return Tombstone(reason)
