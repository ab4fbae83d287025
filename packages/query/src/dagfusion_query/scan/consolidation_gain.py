"""What consolidated objects hold of a table, and whether a consolidation would make its scans faster."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Table
from dagfusion_query.scan.large_objects import LargeObjects
from dagfusion_query.scan.listing_tables import scan_layout

MANY_FILES = 100  # small ones that are in no large object
SMALL_BYTES = 3 << 20  # an object of this size takes about as long as a smaller one


class ConsolidationGain(NamedTuple):
    """A table's state.

    Attributes:
        consolidated: Files whose rows are in large objects that queries read.
        would_gain: More than a hundred small files are not, and could be.
    """

    consolidated: int = 0
    would_gain: bool = False


_gains: WeakKeyDictionary[Table, ConsolidationGain] = (
    WeakKeyDictionary()
)  # a table that did not change is the same object


def consolidation_gain(table: Table) -> ConsolidationGain:
    """Return a table's state, from the catalog alone."""
    if (known := _gains.get(table)) is None:
        known = _gains[table] = _compute(table)
    return known


def _compute(table: Table) -> ConsolidationGain:
    # Large objects are neither read nor written where a view stands before the scan, or where nothing is partitioned.
    if not table.partition_schema.names or scan_layout(table).is_hidden:
        return ConsolidationGain()
    held = LargeObjects(table).held
    sizes = np.asarray(table.files["size_bytes"])
    has_version = np.asarray(pc.is_valid(table.files["etag"]).combine_chunks())
    rest = sizes[~held & has_version]
    return ConsolidationGain(int(held.sum()), len(rest) > MANY_FILES and float(rest.mean()) < SMALL_BYTES)
