"""The versions of tables that a statement on a Spark Connect server reads: their Iceberg metadata, which is written."""

from collections.abc import Sequence

from dagfusion_contract.iceberg_names import version_of_metadata
from dagfusion_contract.record import Layout
from dagfusion_query.catalog.model import Table
from dagfusion_query.errors import EngineChoiceError, UnsupportedTypeError
from dagfusion_query.iceberg.iceberg_schema import iceberg_schema
from dagfusion_query.iceberg.publisher import Publisher
from dagfusion_query.spark.refused_columns import check_left_out


def pinned_version(publisher: Publisher | None, environment: str, table: Table, layouts: Sequence[Layout]) -> str:
    """Return the version of a table's metadata, after it was written.

    Args:
        publisher: That of the table's environment; None if it has no folder for metadata.
        environment: Its name.
        table: The table, also one as of a past event.
        layouts: The layouts of its files.

    Raises:
        EngineChoiceError: The table cannot be read there.
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
