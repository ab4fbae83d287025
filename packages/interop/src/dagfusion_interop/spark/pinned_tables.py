"""Writes the Iceberg metadata of the table versions that a statement on a Spark Connect server reads."""

from collections.abc import Sequence

from dagfusion_client.errors import EngineChoiceError, UnsupportedTypeError
from dagfusion_contract.iceberg_names import version_of_metadata
from dagfusion_contract.record import Layout
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_interop.iceberg.publisher import Publisher
from dagfusion_interop.spark.refused_columns import check_left_out
from dagfusion_query.catalog.model import Table


def pinned_version(publisher: Publisher | None, environment: str, table: Table, layouts: Sequence[Layout]) -> str:
    """Write the metadata of a table, and return the pinned version, which names this metadata.

    Args:
        publisher: The publisher of the table's environment; None if the environment has no folder for metadata.
        environment: The name of the environment.
        table: The table; may be as of a past event.
        layouts: The layouts of its files.

    Raises:
        EngineChoiceError: Spark cannot read the table.
        StoreUnavailableError: The metadata cannot be written.
    """
    if publisher is None:
        raise EngineChoiceError(
            f"the Spark engine reads tables as Iceberg, and environment {environment} has no folder for metadata: "
            'set DAGFUSION_ICEBERG_METADATA, or use engine="local"'
        )
    check_left_out(table.name, iceberg_schema(table, layouts).left_out)
    try:
        publish = publisher.publish if table.as_of is None else publisher.publish_as_of
        return version_of_metadata(publish(table, layouts).uri)
    except UnsupportedTypeError as error:
        raise EngineChoiceError(f'{error}: use engine="local"') from error
