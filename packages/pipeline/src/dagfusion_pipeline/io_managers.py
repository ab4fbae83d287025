"""Dagster IO managers that keep assets as Parquet objects in S3, and log exactly what they wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, ClassVar, Literal

import dagster as dg
import pyarrow as pa
from pydantic import ConfigDict, Field, PrivateAttr

from dagfusion_contract.environments import LOCAL, PREFIX, check_store
from dagfusion_contract.field_ids import with_field_ids
from dagfusion_contract.naming import table_name
from dagfusion_contract.setting_declarations import declaration, meaning
from dagfusion_pipeline.dimensions import metadata_value
from dagfusion_pipeline.environment import READER, SECRET_VARIABLES, Credentials, Environment
from dagfusion_pipeline.errors import ConfigurationError, CorruptObjectError
from dagfusion_pipeline.event_metadata import (
    COLUMN_LINEAGE_KEY,
    COLUMN_SCHEMA_KEY,
    AssetFacts,
    described,
    event_metadata,
    table_schema,
)
from dagfusion_pipeline.fallback import is_in_fallback, store_in_fallback
from dagfusion_pipeline.frame_types import FRAME_TYPES, FrameType
from dagfusion_pipeline.frames import Frame, is_frame, is_frame_type, is_optional, read_frame, requested_type
from dagfusion_pipeline.inputs import annotation_of, as_requested, columns_of
from dagfusion_pipeline.latest_files import latest_files, latest_partition_types
from dagfusion_pipeline.object_layouts import FILE_LAYOUT, HIVE_LAYOUT, ObjectLayout
from dagfusion_pipeline.partition_columns import PartitionColumn
from dagfusion_pipeline.partition_events import attach_metadata
from dagfusion_pipeline.reader import read_each
from dagfusion_pipeline.run_objects import RunObjects
from dagfusion_pipeline.run_partitions import RunPartitions
from dagfusion_pipeline.store import ObjectStore
from dagfusion_pipeline.writer import Target, WriteJob, write

ALLOW_MISSING_KEY = "allow_missing_partitions"


_OF_STORE = [
    *((Environment, name) for name in ("bucket", "region", "endpoint_url")),
    *((Credentials, name) for name in SECRET_VARIABLES),
]
_CHECKED = ("bucket", "prefix", "region", "endpoint_url", "console_url", "object_url")  # as the variables are


def _optional(name: str) -> Any:
    return Field(default=None, description=meaning(Environment, name))


def _secret(name: str) -> Any:
    description = meaning(Credentials, name)
    return Field(default=None, repr=False, description=description, json_schema_extra={"dagster__is_secret": True})


class _S3Parquet(dg.ConfigurableIOManager):
    """The base of both IO managers: their fields, and the conversion of frames to objects and back."""

    # A validation error would print the value it refuses, secrets included.
    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid")

    bucket: str = Field(description="The bucket's name.")
    prefix: str = Field(default=PREFIX, description="The prefix of every object key. May be empty.")
    endpoint_url: str | None = _optional("endpoint_url")
    region: str | None = _optional("region")
    access_key_id: str | None = _secret("access_key_id")
    secret_access_key: str | None = _secret("secret_access_key")
    session_token: str | None = _secret("session_token")
    environment: str = Field(default=LOCAL, description="The first word of the tables' names.")
    file_naming: Literal["stable", "per_run"] = Field(
        default="stable", description="per_run writes new objects in every run and leaves the old ones to a vacuum job."
    )
    compression: Literal["zstd", "snappy"] = Field(default="zstd", description="Parquet's codec.")
    field_ids: bool = Field(
        default=False, description="The columns of files have Iceberg's field ids, for engines that need them."
    )
    partition_columns_in_files: bool = Field(
        default=False, description="The files have the partition columns, too, for engines that need them."
    )
    partition_order: list[str] = Field(
        default=[], description="Dimensions in the order of their folders; by default time is last."
    )
    upload_concurrency: int = Field(default=32, description="Objects written, or read, at once.")
    memory_budget_bytes: int = Field(
        default=256 << 20, description="Rows of a LazyFrame that are held before files are closed."
    )
    console_url: str | None = Field(
        default=None, description="The URL of the query service's console, which events link to."
    )
    object_url: str | None = _optional("object_url")
    # Stores what is no frame, such as dg.FilesystemIOManager(); without it such values are refused.
    fallback: dg.ResourceDependency[dg.IOManager | None] = None  # type: ignore[assignment]

    # Not a cached_property: Dagster would take the cached value for a configured field.
    _object_store: ObjectStore | None = PrivateAttr(default=None)

    _layout: ClassVar[ObjectLayout]

    @property
    def object_store(self) -> ObjectStore:
        """The bucket that the configuration names."""
        if self._object_store is None:
            self._object_store = self._connect()
        return self._object_store

    def _connect(self) -> ObjectStore:
        return ObjectStore.s3(
            self.bucket,
            endpoint_url=self.endpoint_url,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            session_token=self.session_token,
        )

    def metrics(self, context: dg.OutputContext, table: pa.Table) -> Mapping[str, Any]:  # noqa: ARG002 - for subclasses
        """Return numbers about one written object for its event; override it in a subclass.

        Args:
            context: The output's.
            table: All rows of the object, partition columns included.
        """
        return {}

    def frame_types(self) -> Sequence[FrameType]:
        """Return the types of frames that are stored, in order of preference; a subclass may add its own."""
        return FRAME_TYPES

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Write a frame as one object for each partition, and put each object's metadata on its partition's event.

        None is not stored where the output is Optional. The fallback stores what is no frame, and outputs of ops.

        Raises:
            PipelineError: The frame, its partitions or the store; no event says anything of this run's objects then.
        """
        self._check_settings()
        if obj is None and is_optional(context.dagster_type.typing_type):
            context.log.info("nothing is stored: the output is None")
        elif self.fallback is not None and not (context.has_asset_key and is_frame(obj, self.frame_types())):
            store_in_fallback(self.fallback, context, obj)
        else:
            self._check_asset(context)
            self._store(context, obj)

    def load_input(self, context: dg.InputContext) -> object:
        """Read an asset, or the partitions of it that the run needs, as the input's annotation asks for it.

        Rows are in the order of the partitions, and HIVE's partition columns come last. The fallback loads what it
        stored.

        Raises:
            PipelineError: An unknown annotation, a partition that is not there, or columns that do not fit together.
        """
        self._check_settings()
        if self.fallback is not None and self._is_of_fallback(context):
            return self.fallback.load_input(context)
        self._check_asset(context)
        return self._load(context)

    def _store(self, context: dg.OutputContext, obj: object) -> None:
        partitions = self._partitions(context, context.definition_metadata)
        partitions.check_any()
        frame = read_frame(obj, partitions.asset, self.frame_types())
        recorded = partial(latest_partition_types, context.step_context.instance, context.asset_key)
        columns = partitions.columns(frame.schema, cache(recorded))
        metrics: dict[str | None, Mapping[str, Any]] = {}

        def measure(target: Target, rows: pa.Table) -> None:
            metrics[target.partition_key] = self.metrics(context, rows)

        job = self._job(context, partitions, columns, frame)
        if type(self).metrics is not _S3Parquet.metrics:
            job = replace(job, measure=measure)
        index = partitions.index(columns, frame.schema)
        files = write(job, (piece for table in frame.tables for piece in index.split(table)), self.object_store)
        values = job.targets[0].values
        facts = self.asset_facts(context.asset_key, context.definition_metadata, job.schema, values)
        metadata = {
            # What was measured may not replace the rest.
            target.partition_key: {
                **metrics.get(target.partition_key, {}),
                **event_metadata(target, file, facts, partitions.names_of(position)),
            }
            for position, (target, file) in enumerate(zip(job.targets, files, strict=True))
        }
        if COLUMN_LINEAGE_KEY in context.definition_metadata:  # Dagster's UI shows that of the latest event
            latest = context.asset_partition_keys[-1] if context.has_asset_partitions else None
            metadata[latest] = {COLUMN_LINEAGE_KEY: context.definition_metadata[COLUMN_LINEAGE_KEY], **metadata[latest]}
        attach_metadata(context, metadata)
        size = sum(file.size_bytes for file in files)
        context.log.info("wrote %d objects, %d bytes, under %s", len(files), size, self._root(context.asset_key))

    def _job(
        self,
        context: dg.OutputContext,
        partitions: RunPartitions,
        columns: Sequence[PartitionColumn],
        frame: Frame,
    ) -> WriteJob:
        partition = pa.schema([pa.field(column.name, column.data_type) for column in columns])
        has_partition = self.partition_columns_in_files
        schema = self._layout.file_schema(frame.schema, partition, partitions.asset, has_partition=has_partition)
        return WriteJob(
            asset=partitions.asset,
            targets=self._objects(context.asset_key, partitions).targets(columns, _attempt(context)),
            schema=with_field_ids(schema, partition.names) if self.field_ids else schema,
            footer_partition=self._layout.writes_partition_to_footer and bool(columns),
            compression=self.compression,
            concurrency=self.upload_concurrency,
            budget_bytes=self.memory_budget_bytes if frame.streamed else None,
        )

    def _partitions(self, context: dg.OutputContext | dg.InputContext, metadata: Mapping[str, object]) -> RunPartitions:
        partitions = RunPartitions.of(context, metadata, self.partition_order)
        self._layout.check_dimensions([dimension.name for dimension in partitions.dimensions], partitions.asset)
        return partitions

    def _is_of_fallback(self, context: dg.InputContext) -> bool:
        if not context.has_asset_key:
            return True
        annotation = annotation_of(context)
        if annotation is not Any:
            return not is_frame_type(annotation, self.frame_types())
        keys = context.asset_partition_keys if context.has_asset_partitions else []
        return is_in_fallback(context.instance, context.asset_key, keys)

    def _load(self, context: dg.InputContext) -> object:
        upstream = context.upstream_output.definition_metadata if context.upstream_output else {}
        partitions = self._partitions(context, upstream)
        requested = requested_type(annotation_of(context), partitions.asset, self.frame_types())
        allow_missing = context.definition_metadata.get(ALLOW_MISSING_KEY, upstream.get(ALLOW_MISSING_KEY, False))
        load = partial(
            self._read,
            context,
            partitions,
            columns=columns_of(context.definition_metadata, partitions.asset),
            allow_missing=requested.optional or bool(metadata_value(allow_missing)),
        )
        try:
            tables = load()
        except CorruptObjectError:  # another run may have replaced the object since its event was read
            tables = load()
        return as_requested(tables, requested, partitions.asset, partitions.keys)

    def _read(
        self,
        context: dg.InputContext,
        partitions: RunPartitions,
        *,
        columns: Sequence[str] | None,
        allow_missing: bool,
    ) -> dict[str | None, pa.Table]:
        latest = latest_files(context.instance, context.asset_key, partitions.keys)
        return read_each(
            partitions.asset,
            self._objects(context.asset_key, partitions).sources(latest, self.object_store.uri("")),
            self.object_store,
            self.upload_concurrency,
            columns=columns,
            allow_missing=allow_missing,
            wiped={key for key, file in latest.items() if file is None},
        )

    def _objects(self, asset_key: dg.AssetKey, partitions: RunPartitions) -> RunObjects:
        return RunObjects(self._layout, self.prefix, asset_key.path, partitions, self.file_naming == "stable")

    def asset_facts(
        self,
        asset_key: dg.AssetKey,
        metadata: Mapping[str, object],
        schema: pa.Schema,
        partition: Mapping[str, pa.Scalar],
    ) -> AssetFacts:
        """Return what the events of an asset share: its key, table name and definition.

        Args:
            asset_key: The asset's.
            metadata: The metadata of its definition, which may describe columns.
            schema: The schema of its files.
            partition: The values of a partition's columns.
        """
        declared = metadata_value(metadata.get(COLUMN_SCHEMA_KEY))
        return AssetFacts(
            table_name=str(table_name(self.environment, asset_key.path)),
            column_schema=described(table_schema(schema, partition), declared),
            bucket=self.bucket,
            endpoint_url=self.endpoint_url,
            region=self.region,
            object_url=self.object_url,
            console_url=self.console_url,
        )

    def _root(self, asset_key: dg.AssetKey) -> str:
        return self.object_store.uri("/".join(filter(None, [self.prefix, *asset_key.path])))

    def _check_asset(self, context: dg.OutputContext | dg.InputContext) -> None:
        if not context.has_asset_key:
            raise ConfigurationError(
                f"{type(self).__name__} stores assets; {context.name!r} belongs to an op: make the op an asset, give"
                " the output another io_manager_key, or set fallback=dagster.FilesystemIOManager() to store such values"
            )

    def _check_settings(self) -> None:
        kind = type(self).__name__
        for name in _CHECKED:
            if value := getattr(self, name):
                READER.checked(declaration(Environment, name), f"{name} of {kind}", value)
        fields = {declaration(declared_in, name).metadata["variable"]: name for declared_in, name in _OF_STORE}
        values = {variable: getattr(self, name) for variable, name in fields.items()}
        check_store(READER, values, name=lambda variable: f"{fields[variable]} of {kind}")
        for name in ("upload_concurrency", "memory_budget_bytes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} of {kind} must be at least 1; got {getattr(self, name)}")


class S3ParquetIOManager(_S3Parquet):
    """Keeps an asset as one Parquet object, or as one for each partition key.

    For unpartitioned assets and those with one dimension. The frame is written as it is. The object key is
    `{prefix}/{asset key}[/{partition key}].parquet`.
    """

    _layout: ClassVar[ObjectLayout] = FILE_LAYOUT


class PartitionedS3ParquetIOManager(_S3Parquet):
    """Keeps an asset as a HIVE table: `{prefix}/{asset key}/{column}={value}/.../data.parquet`.

    For assets with any partitions or none. The partition columns are in the path and the file's footer. The rows have
    them only with `partition_columns_in_files`.
    """

    _layout: ClassVar[ObjectLayout] = HIVE_LAYOUT


def _attempt(context: dg.OutputContext) -> str:
    """Return the run, and the retry of its step: a retry must not replace an object whose event is logged."""
    retry = context.step_context.previous_attempt_count
    return f"{context.run_id}-{retry}" if retry else context.run_id
