"""Tables with a past: a partition that is written again with another column, one that is wiped, and a wiped table."""

import dagster as dg
import polars as pl

from dagfusion_pipeline.event_objects import tombstone_event
from tests.interop.spark.tpch import Writer

KEPT, WIPED, STABLE, REMOVED = "kept", "wiped", "stable", "removed"


def materialize(writer: Writer) -> None:
    """Write the tables.

    `kept` has three states, and `wiped` one and its wipe. Of `stable` objects are written again, and of `removed` the
    objects of a wiped partition are deleted.
    """
    for name, is_kept in ((KEPT, True), (WIPED, True), (STABLE, False), (REMOVED, True)):
        for n, places in ((1, ["a", "b"]), (2, ["b", "c"])):
            frame = pl.DataFrame({"place": places, "n": [n, 10 * n]}, schema={"place": pl.String, "n": pl.Int64})
            if name == KEPT and n > 1:
                frame = frame.with_columns(text=pl.format("it's {}", "n"))
            if name not in (WIPED, REMOVED) or n == 1:
                writer.materialize(name, frame, "place", keeps_past=is_kept)
    for place in ("a", "b"):
        writer.instance.report_runless_asset_event(tombstone_event(dg.AssetKey(WIPED), place, "no more"))
    for name in (KEPT, REMOVED):
        writer.instance.report_runless_asset_event(tombstone_event(dg.AssetKey(name), "a", "no more"))
    store = writer.of_runs.object_store
    store.delete_objects([stored.key for stored in store.list_objects(f"{writer.of_runs.prefix}/{REMOVED}/place=a")])
