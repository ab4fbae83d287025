"""Keep a table's segments few and its dropped rows few, at a cost that a new event hardly sees."""

from collections.abc import Collection, Sequence

import pyarrow as pa

from dagfusion_query.catalog.model import Segment

TIER = 8  # this many segments of one size are merged into one of the next size
LARGE_ROWS = TIER**5  # such segments are not merged any more
_MAX_DROPPED = 64


def compact(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Leave out segments of which nothing counts, rewrite those with many gaps, merge the small ones of a layout."""
    layouts: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.live_count:
            layouts.setdefault(segment.layout.key, []).append(_rewritten(segment))
    return tuple(segment for group in layouts.values() for segment in _merge(group))


def _merge(segments: Sequence[Segment]) -> list[Segment]:
    left = list(segments)
    size = TIER
    while size <= LARGE_ROWS:
        small = [segment for segment in left if segment.live_count < size]
        if len(small) >= TIER:
            rows = pa.concat_tables([rows for segment in small for rows in segment.live()])
            left = [segment for segment in left if segment.live_count >= size]
            left.append(Segment(small[0].layout, rows.combine_chunks()))
        size *= TIER
    return left


def _rewritten(segment: Segment) -> Segment:
    if len(segment.dropped) <= min(_MAX_DROPPED, segment.rows.num_rows // 2):
        return segment
    return Segment(segment.layout, without(segment.rows, segment.dropped))


def without(rows: pa.Table, gone: Collection[int]) -> pa.Table:
    """Return a copy of the rows but for those whose numbers are given."""
    kept = sorted(set(range(rows.num_rows)).difference(gone))
    return rows.take(pa.array(kept, pa.int64())).combine_chunks()
