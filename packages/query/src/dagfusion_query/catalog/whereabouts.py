"""Where a table's files are, as one URI. Pure."""

from itertools import takewhile

import pyarrow.compute as pc

from dagfusion_query.catalog.model import Table


def whereabouts(table: Table) -> str | None:
    """Return the folder that holds all files of a table, or the file where there is one; None where there is none."""
    if not len(table.files):
        return None
    ends = pc.min_max(table.files["uri"]).as_py()
    if ends["min"] == ends["max"]:
        return str(ends["min"])
    # What the first and the last in order share, all share.
    parts = zip(ends["min"].split("/"), ends["max"].split("/"), strict=False)
    folder = "/".join(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], parts))
    names = table.partition_schema.names
    kept, found, _ = folder.partition(f"/{names[0]}=") if names else (folder, "", "")
    return f"{kept if found else folder}/"
