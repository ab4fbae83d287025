"""The partition columns of a file that another IO manager wrote, and their values. Pure.

All of them are strings: the event has the values as text, and readers of Hive folders disagree on their types.
"""

from collections.abc import Sequence
from urllib.parse import unquote

from dagfusion_contract.layout import HIVE_NULL

Columns = tuple[tuple[str, str | None], ...]

PARTITION_KEY = "partition_key"  # the column where nobody says what its dimension is called


def event_columns(partition_key: str | None, dimensions: Sequence[tuple[str, str]], key: str) -> Columns:
    """Return the partition columns that an event tells.

    Args:
        partition_key: Dagster's; the values of several dimensions are joined by `|`, in the order of their names.
        dimensions: Name and value of each dimension, where the event tells.
        key: Of the object or folder. Its `name=value` segments name the dimensions where the event does not, and order
            them where it does.

    Returns:
        Names and values in path order; none for an unpartitioned materialization; `partition_key` where no name is
        known.
    """
    if partition_key is None:
        return ()
    segments = hive_segments(key)
    if dimensions:
        order = [name for name, _ in segments]
        if {name for name, _ in dimensions} <= set(order):
            return tuple(sorted(dimensions, key=lambda column: order.index(column[0])))
        return tuple(dimensions)
    whole = [segment for segment in segments if segment[1] == partition_key]
    if whole:
        return (whole[-1],)
    values = partition_key.split("|")
    found = tuple(segment for segment in segments if segment[1] in values)
    if [value for _, value in sorted(found)] == values and len(values) > 1:
        return found
    return ((PARTITION_KEY, partition_key),)


def hive_segments(key: str) -> Columns:
    """Return the `name=value` folders of a key, outermost first, each name once."""
    found: dict[str, str | None] = {}
    for segment in key.split("/")[:-1]:
        name, equals, value = segment.partition("=")
        if name and equals:
            found[unquote(name)] = None if value == HIVE_NULL else unquote(value)
    return tuple(found.items())
