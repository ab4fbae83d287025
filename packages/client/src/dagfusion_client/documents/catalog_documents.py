"""Documents of the catalog: environments, tables, partitions, and their runs in Dagster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagfusion_client.documents.codec import shown_as
from dagfusion_client.returned_values import TableGeneration


@dataclass(frozen=True)
class CatalogProblemDocument:
    """The reason why a table or an environment cannot be read.

    Attributes:
        code: The kind of the error, such as `not_parquet`.
        detail: Its text.
    """

    code: str
    detail: str


@dataclass(frozen=True)
class EnvironmentDocument:
    """One environment.

    Attributes:
        generation: The generation of its catalog; a number that rises with each change.
        age_s: Seconds since the event log was read.
        problem: Why it cannot be read now; what was read before is served.
        dagster_url: Dagster's web interface.
    """

    name: str
    generation: int
    age_s: float | None
    problem: CatalogProblemDocument | None
    dagster_url: str | None = None


@dataclass(frozen=True)
class ColumnDocument:
    """One column of a table.

    Attributes:
        type: Arrow's name of the type.
        nullable: Whether it may hold NULL.
        partition: Whether it is a partition column.
    """

    name: str
    type: str
    nullable: bool = True
    partition: bool = False


@dataclass(frozen=True, kw_only=True)
class _TableFacts:
    """The fields of every description of a table.

    Attributes:
        asset_key: Dagster's.
        partition_columns: In path order.
        partitions: How many are materialized.
        materialized_at: The last materialization.
        problem: Why it cannot be queried.
        kind: `table`, or `view`, which has no partitions of its own.
    """

    environment: str
    schema: str
    name: str
    kind: str = "table"
    asset_key: Sequence[str] = ()
    partition_columns: Sequence[str] = ()
    partitions: int = 0
    rows: int = 0
    bytes: int = 0
    materialized_at: datetime | None = None
    problem: CatalogProblemDocument | None = None


@dataclass(frozen=True, kw_only=True)
class BriefTableDocument(_TableFacts):
    """A table in a line of a list.

    Attributes:
        warnings: Partitions left out.
    """

    warnings: int = 0


@dataclass(frozen=True, kw_only=True)
class TableDocument(_TableFacts):
    """A table in full.

    Attributes:
        columns: Partition columns last.
        files: A partition may have several.
        last_run_id: The run of the last materialization.
        dagster_url: The asset in Dagster's web interface.
        warnings: Partitions and columns that are left out, and why.
        sql: The statement of a view.
        reads: The tables and views that a view reads.
        consolidated: How many of the files also have their rows in large objects.
        would_gain: Whether a consolidation would make scans faster: many small files are in no such object.
    """

    columns: Sequence[ColumnDocument] = ()
    files: int = 0
    last_run_id: str | None = None
    dagster_url: str | None = None
    warnings: Sequence[str] = ()
    sql: str | None = None
    reads: Sequence[str] = ()
    consolidated: int = 0
    would_gain: bool = False


@dataclass(frozen=True)
class TablesDocument:
    """Environments and their tables.

    Attributes:
        tables: All of them brief, all of them in full, or none, as was asked.
    """

    environments: Sequence[EnvironmentDocument]
    tables: Sequence[TableDocument | BriefTableDocument]


@dataclass(frozen=True)
class PartitionDocument:
    """A partition, or a file of a folder: beside its partition columns.

    Attributes:
        partition_key: Dagster's.
        run_id: The run that materialized it.
    """

    partition_key: str | None
    rows: int
    bytes: int
    materialized_at: datetime
    run_id: str | None


@dataclass(frozen=True)
class PartitionsDocument:
    """A page of a table's partitions.

    Attributes:
        total: Rows of all pages.
    """

    total: int
    partitions: Sequence[Mapping[str, Any]] = shown_as(Sequence[PartitionDocument])


@dataclass(frozen=True)
class RunDocument:
    """A run that was to materialize something.

    Attributes:
        status: Dagster's; null of a deleted run.
    """

    run_id: str
    status: str | None
    created_at: datetime | None


@dataclass(frozen=True)
class HistoryDocument:
    """The runs in Dagster of a table, or of one of its partitions.

    Attributes:
        partition_key: The partition that was asked about; null for the whole table.
        runs: The latest that were to materialize it, newest first.
        materialized_at: The last materialization, wiped or not.
        wiped_at: The last wipe of the whole asset.
    """

    partition_key: str | None
    runs: Sequence[RunDocument]
    materialized_at: datetime | None
    wiped_at: datetime | None


@dataclass(frozen=True)
class GenerationsDocument:
    """The revisions of a table, newest first: what each of its latest runs wrote, and wipes."""

    generations: Sequence[TableGeneration]


@dataclass(frozen=True)
class GenerationsRequest:
    """The body of Flight's action that lists revisions.

    Attributes:
        table: `schema.table`.
        limit: The most revisions.
    """

    table: str
    limit: int


@dataclass(frozen=True)
class DiffRequest:
    """The body of Flight's action that compares two states of a table.

    Attributes:
        table: `schema.table`.
        before: The first state: the id of an event, or a time.
        after: The second state; null for the current one.
    """

    table: str
    before: str
    after: str | None = None
