"""The command that the pipeline adds to `dagfusion`.

Dagster is imported when the command runs, so that the other commands do not wait for it.
"""

import os
from typing import Annotated

import typer

Table = Annotated[str, typer.Argument(help="The table, such as local_silver_tax_id.partitioned_organizations.")]
TargetMb = Annotated[float, typer.Option(min=0.001, help="Megabytes of small objects in a large one, about.")]


def commands(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(consolidate)


def consolidate(table: Table, *, target_mb: TargetMb = 64) -> None:
    """Write a table's small objects into few large ones, which queries read where they are current.

    The event log is that of DAGSTER_HOME, and the bucket that of ENVIRONMENT and its variables, as the IO managers have
    them.
    """
    from dagfusion_pipeline.consolidate_table import consolidate_table  # noqa: PLC0415
    from dagfusion_pipeline.errors import PipelineError  # noqa: PLC0415

    if not os.environ.get("DAGSTER_HOME"):
        typer.echo("error: DAGSTER_HOME must be set to the folder of the Dagster instance; it is not set", err=True)
        raise typer.Exit(1)
    try:
        typer.echo(consolidate_table(table, target_mb))
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
