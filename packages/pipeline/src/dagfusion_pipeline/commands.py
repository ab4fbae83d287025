"""The commands that the pipeline adds to `dagfusion`.

Dagster is imported when a command runs, so that the other commands do not wait for it.
"""

from collections.abc import Callable
from typing import Annotated

import typer

TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="The table, such as local_silver_tax_id.orgs.")]
TargetMbOption = Annotated[
    float,
    typer.Option(
        min=0.001, help="MB of small objects that one large object replaces. A large object has about this size."
    ),
]
PartitionsOption = Annotated[
    list[str] | None,
    typer.Option("--partition", help="A partition, as Dagster names it: 2024-01-05, or 2024-01-05|CA."),
]
DeletedDynamicOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Also wipe partitions whose keys were deleted from this DynamicPartitionsDefinition."
    ),
]
AlsoUnknownOption = Annotated[
    bool,
    typer.Option(
        "--also-unknown", help="Also wipe partitions that have no events, for example because they were purged."
    ),
]
ColumnOption = Annotated[str, typer.Option(help="The column that holds the keys.")]
KeysFileOption = Annotated[
    str, typer.Option(metavar="FILE", help="The keys, one on each line: a file, or s3://bucket/key in the same bucket.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the proof as JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Apply the changes. Without --yes, this is a dry run.")]


def commands(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (consolidate, wipe, erase, repair):
        app.command()(command)


def consolidate(table: TableArgument, *, target_mb: TargetMbOption = 64) -> None:
    """Copy the small objects of a table into a few large ones, so that queries need fewer requests.

    The command uses the event log of DAGSTER_HOME and the bucket of ENVIRONMENT, with the variables of the IO managers.
    Without DAGSTER_HOME, it uses the local stack of the folder.
    """
    from dagfusion_pipeline.table_commands import consolidate_table  # noqa: PLC0415

    _run(lambda: consolidate_table(table, target_mb))


def wipe(
    table: TableArgument,
    *,
    partition: PartitionsOption = None,
    deleted_dynamic: DeletedDynamicOption = None,
    also_unknown: AlsoUnknownOption = False,
    yes: YesOption = False,
) -> None:
    """Wipe partitions of a table, so that queries no longer return their rows. The vacuum deletes their objects later.

    The command uses the event log of DAGSTER_HOME. ENVIRONMENT must be the first word of the table's schema.
    Without DAGSTER_HOME, it uses the local stack of the folder.
    """
    from dagfusion_pipeline.table_commands import wipe_table  # noqa: PLC0415

    _run(lambda: wipe_table(table, partition or (), deleted_dynamic, dry_run=not yes, also_unknown=also_unknown))


def erase(
    table: TableArgument,
    *,
    column: ColumnOption,
    keys_file: KeysFileOption,
    json: JsonOption = False,
    yes: YesOption = False,
) -> None:
    """Erase the rows of a table that have given keys: rewrite their objects, and report what was removed.

    The command uses the event log of DAGSTER_HOME and the bucket of ENVIRONMENT, with the variables of the IO managers.
    Without DAGSTER_HOME, it uses the local stack of the folder.
    The keys are in a file, so that they appear neither in the process list nor in the shell history.
    """
    from dagfusion_pipeline.table_commands import erase_table_rows  # noqa: PLC0415

    _run(lambda: erase_table_rows(table, column, keys_file, typer.echo, dry_run=not yes, as_json=json))


def repair(table: TableArgument, *, yes: YesOption = False) -> None:
    """Make the event log match the bucket: log tombstones for missing objects, and new events for replaced ones.

    The command uses the event log of DAGSTER_HOME and the bucket of ENVIRONMENT, with the variables of the IO managers.
    Without DAGSTER_HOME, it uses the local stack of the folder.
    `dagfusion doctor` finds the differences, as `objects_missing` and `objects_changed`, and repairs those alone with
    `--repair`. This command also takes partitions for missing that DAGFUSION_ARCHIVED_AFTER_DAYS leaves out of queries.
    """
    from dagfusion_pipeline.repair import repair_table  # noqa: PLC0415

    _run(lambda: repair_table(table, dry_run=not yes))


def _run(command: Callable[[], str | None]) -> None:
    """Print what a command returns, or its error; one that returns nothing has printed for itself."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from dagfusion_pipeline.errors import PipelineError  # noqa: PLC0415

    try:
        summary = command()
        if summary is not None:
            typer.echo(summary)
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except Exception as error:
        # What Dagster raises where it cannot connect to PostgreSQL has SQLAlchemy's error as its cause.
        failed = error if isinstance(error, SQLAlchemyError) else error.__cause__
        if not isinstance(failed, SQLAlchemyError):
            raise
        cause = str(getattr(failed, "orig", None) or failed).strip()
        typer.echo(
            f"error: the database of DAGSTER_HOME failed: {cause}: check it, and run the command again", err=True
        )
        raise typer.Exit(1) from None
