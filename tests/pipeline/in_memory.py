"""Both IO managers over one store in this process's memory."""

from obstore.store import MemoryStore

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import ObjectStore

STORE = ObjectStore(MemoryStore(), "s3://lake")


class Hive(PartitionedS3ParquetIOManager):
    @property
    def object_store(self) -> ObjectStore:
        return STORE


class Flat(S3ParquetIOManager):
    @property
    def object_store(self) -> ObjectStore:
        return STORE
