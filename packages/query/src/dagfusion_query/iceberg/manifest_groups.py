"""Which files of a table share a manifest. Pure, and stable: new files change few manifests.

Files of one value of the leading partition column share a manifest, so that engines skip whole manifests and a new
partition changes one. Where values have few files, neighbouring values share one; where a value has very many files,
they are cut into several. Both cuts follow from the content (a hash of what is at the cut), so that files before and
after a new one stay in the manifests in which they are.
"""

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_FILES = 2048  # of a manifest, on average; a power of two
_MIN_FILES = 256  # of a manifest of several values, on average
_MAX_MANIFESTS = 1000  # about, before manifests get larger
Cuts = npt.NDArray[np.bool_]


def manifest_groups(files: pa.Table, leading: str | None) -> Iterator[pa.Table]:
    """Yield the files of each manifest.

    Args:
        files: As `Table.files` has them, in any order.
        leading: The leading partition column; None if there is none.
    """
    if not len(files):
        return
    keys = {"uri": files["uri"]}
    if leading is not None:
        keys = {"leading": pc.struct_field(files["partition"], leading), **keys}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
    files = files.take(order)
    uris = [uri.encode() for uri in files["uri"].to_pylist()]
    values = None if leading is None else pc.struct_field(files["partition"], leading)
    cuts = _cuts(uris, values)
    starts = [0, *np.flatnonzero(cuts).tolist()]
    for start, end in zip(starts, [*starts[1:], len(files)], strict=True):
        yield files.slice(start, end - start)


def _cuts(uris: list[bytes], values: pa.ChunkedArray | None) -> Cuts:
    """Return True for each file that begins a manifest; the first of all is False."""
    count = len(uris)
    changes = np.zeros(count, np.bool_)
    if values is not None:
        codes = values.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        changes[1:] = codes[1:] != codes[:-1]
    runs = int(changes.sum()) + 1
    cuts = np.zeros(count, np.bool_)
    step = _power_of_two(max(_MIN_FILES, count // _MAX_MANIFESTS) * runs / count)
    starts = np.flatnonzero(changes)
    for start in starts.tolist():
        text = repr(values[start].as_py()) if values is not None else ""
        cuts[start] = zlib.crc32(text.encode("utf-8", "backslashreplace")) % step == 0
    ends = np.append(starts, count)
    begins = np.insert(starts, 0, 0)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end - begin > 2 * MAX_FILES:
            for at in range(begin + 1, end):
                cuts[at] = zlib.crc32(uris[at]) % MAX_FILES == 0
    return cuts


def _power_of_two(least: float) -> int:
    """Return the largest power of two that is at most a number, and 1 for all below."""
    return 1 << max(0, int(least).bit_length() - 1)
