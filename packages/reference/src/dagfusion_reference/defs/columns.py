"""What the assets' definitions say of their columns: types, descriptions, and the columns that they are made from."""

from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl

from dagfusion_pipeline.frames import read_frame

Sources = Mapping[str, Sequence[str]]


def columns(schema: pl.Schema, descriptions: Mapping[str, str]) -> dict[str, dg.TableSchema]:
    """Return the metadata that declares the columns of a table, with the types that its files have.

    Args:
        schema: The schema of the frames that the asset returns.
        descriptions: By column, for all of them.
    """
    stored = read_frame(pl.DataFrame(schema=schema), "columns").schema
    declared = [dg.TableColumn(field.name, str(field.type), descriptions[field.name]) for field in stored]
    return {"dagster/column_schema": dg.TableSchema(declared)}


def lineage(upstream: dg.AssetsDefinition, sources: Sources) -> dict[str, dg.TableColumnLineage]:
    """Return the metadata that tells from which columns of another asset each column is made.

    Args:
        upstream: The other asset.
        sources: By column of this asset, the columns of the other.
    """
    found = {name: [dg.TableColumnDep(upstream.key, source) for source in of] for name, of in sources.items()}
    return {"dagster/column_lineage": dg.TableColumnLineage(found)}
