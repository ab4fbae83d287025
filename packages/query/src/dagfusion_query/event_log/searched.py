"""The assets that named no file when they were searched, so that a full sync does not search the same events again.

An asset that another IO manager stores may never name a file. Every full sync would search its whole history, because
any earlier event could be the last that names one. What was found holds as long as the events are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Searched:
    """What one full sync found out about the events up to one of them.

    Attributes:
        up_to: The id of the log's latest event at that time.
        evidence: The number of the events up to it, the sum of their ids, and the run and time of the latest.
        fileless: The assets, as Dagster stores their keys, none of whose events named a file.
    """

    up_to: int = 0
    evidence: Sequence[Any] = ()
    fileless: frozenset[str] = frozenset()

    def above(self, asset_key: str) -> int:
        """Return the id above which an asset's events have to be searched."""
        return self.up_to if asset_key in self.fileless else 0
