"""The metadata of each materialization, as the documents list it."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from tests.reference.code_location import (
    DAYS,
    EXPORT,
    EXTRACTS,
    ORDERS,
    ORG_AGGREGATES,
    REGISTER,
    SALES,
    days,
    rectangle,
    run,
)

NUMBER = (dg.IntMetadataValue, dg.FloatMetadataValue)
DOCUMENTED: Mapping[str, type | tuple[type, ...]] = {
    "dagfusion/file": dg.JsonMetadataValue,
    "dagster/uri": dg.TextMetadataValue,
    "dagster/column_schema": dg.TableSchemaMetadataValue,
    "dagster/table_name": dg.TextMetadataValue,
    "file_size_mb": dg.FloatMetadataValue,
    "s3_path": dg.UrlMetadataValue,
    "column_count": dg.IntMetadataValue,
    "processed_at": dg.TimestampMetadataValue,
}
ROW_COUNT, PARTITION_ROW_COUNT = "dagster/row_count", "dagster/partition_row_count"
LINEAGE = "dagster/column_lineage"
OF_ORGANIZATIONS = ("organizations", "providers", "specialties")
OF_ORDERS = ("orders", "customers", "units", "revenue", "average_order_value")
METADATA: Sequence[tuple[dg.AssetKey, Mapping[str, str], str, Sequence[str], type | None]] = [
    (REGISTER, {}, ROW_COUNT, OF_ORGANIZATIONS, None),
    (EXTRACTS, rectangle("AL", "WY"), PARTITION_ROW_COUNT, OF_ORGANIZATIONS, dg.JsonMetadataValue),
    (ORG_AGGREGATES, days(*DAYS), PARTITION_ROW_COUNT, ("organizations", "providers", "states"), dg.TextMetadataValue),
    (EXPORT, {}, ROW_COUNT, OF_ORDERS, None),
    (ORDERS, rectangle("AL", "WY"), PARTITION_ROW_COUNT, OF_ORDERS, dg.JsonMetadataValue),
    (
        SALES,
        days(*DAYS),
        PARTITION_ROW_COUNT,
        ("orders", "units", "states", "revenue", "average_order_value"),
        dg.TextMetadataValue,
    ),
]


def columns_of(schema: dg.TableSchema) -> list[tuple[str, str, str | None]]:
    return sorted((column.name, column.type, column.description) for column in schema.columns)


def test_each_materialization_has_the_documented_metadata(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    for key, tags, rows, numbers, partition_keys in METADATA:
        events = [
            event.materialization for event in run(location, instance, key, tags).get_asset_materialization_events()
        ]
        expected = {**DOCUMENTED, rows: dg.IntMetadataValue, **dict.fromkeys(numbers, NUMBER)}
        if partition_keys is not None:
            expected["partition_keys"] = partition_keys
        declared = location.resolve_assets_def(key).get_asset_spec(key).metadata
        for event in events:
            extra = {LINEAGE} if event is events[-1] and LINEAGE in declared else set()  # the UI shows the latest
            assert event.metadata.keys() == expected.keys() | extra
            wrong = [name for name, kind in expected.items() if not isinstance(event.metadata[name], kind)]
            assert wrong == []
        shown: Mapping[str, Any] = events[-1].metadata
        assert shown["s3_path"].value.startswith("http")  # a link that a browser opens
        assert shown["column_count"].value == len(shown["dagster/column_schema"].value.columns)
        assert columns_of(shown["dagster/column_schema"].value) == columns_of(declared["dagster/column_schema"])
        assert 0 < shown["file_size_mb"].value < 10
        assert shown[rows].value == shown["dagfusion/file"].value["rows"] > 0
