"""The manifests of a table's files: those that did not change are reused from the version before. Pure.

Which files share a manifest depends on the files alone, see `file_groups`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_interop.iceberg.event_order import EventOrder
from dagfusion_interop.iceberg.file_groups import Numbers, areas, manifests
from dagfusion_interop.iceberg.iceberg_manifest import Block, ManifestEncoder

_ENCODED = 1 << 14  # files at a time, which bounds the memory for them
_USED = ("uri", "size_bytes", "rows", "partition")


@dataclass(frozen=True)
class _Area:
    """Some files, and the blocks of their manifests.

    Attributes:
        serials: The numbers of the files, in their order.
        of_new: Whether they are new files.
        manifests: The keys of the blocks of each manifest.
    """

    serials: Numbers
    of_new: bool
    manifests: Sequence[Sequence[bytes]]


@dataclass(frozen=True)
class GroupedFiles:
    """The manifests of a version of a table.

    Attributes:
        order: The order of its files.
        basis: All that the order and the blocks depend on, but for the files.
        areas: The files that were grouped together.
        blocks: By a hash of the numbers of their files.
    """

    order: EventOrder
    basis: object
    areas: Sequence[_Area]
    blocks: Mapping[bytes, Block]

    @classmethod
    def of(
        cls, files: pa.Table, encoder: ManifestEncoder, after: int | None, before: "GroupedFiles | None" = None
    ) -> "GroupedFiles":
        """Group files and encode their blocks.

        Args:
            files: With the columns of manifests and those that order files.
            encoder: Encodes their entries.
            after: The event after which files are new; None if no file is.
            before: Another version of the table, of which to use what is the same.
        """
        leading = encoder.schema.partition[0].name if encoder.schema.partition else None
        basis = (encoder.columns, files.schema.field("partition").type, *_bound_types(files, encoder))
        known = before if before is not None and before.basis == basis else None
        order = EventOrder.of(
            files, leading, [column.name for column in encoder.schema.bounded], None if known is None else known.order
        )
        found, blocks = [], dict[bytes, Block]()
        for start, end, of_new in areas(order.keys, after):
            area, more = _area(order, start, end, of_new=of_new, encoder=encoder, known=known)
            found.append(area)
            blocks |= more
        return cls(order, basis, found, blocks)

    @property
    def manifests(self) -> Iterator[Sequence[Block]]:
        """The blocks of each manifest."""
        for area in self.areas:
            yield from ([self.blocks[key] for key in manifest] for manifest in area.manifests)


def _area(
    order: EventOrder, start: int, end: int, *, of_new: bool, encoder: ManifestEncoder, known: GroupedFiles | None
) -> tuple[_Area, Mapping[bytes, Block]]:
    serials = order.serials[start:end]
    blocks = {} if known is None else known.blocks
    for area in () if known is None else known.areas:
        if area.of_new == of_new and np.array_equal(area.serials, serials):
            return area, {key: blocks[key] for manifest in area.manifests for key in manifest}
    groups = None if of_new else order.leading.groups(order.codes[start:end])
    of_key: dict[bytes, Numbers] = {}
    keys = []
    for manifest in manifests(order.keys[start:end], groups):
        positions = [start + block for block in manifest]
        keys.append([_key(order.serials[block]) for block in positions])
        of_key |= zip(keys[-1], positions, strict=True)
    missing = {key: block for key, block in of_key.items() if key not in blocks}
    made = dict(zip(missing, _encoded(order, [*missing.values()], encoder), strict=True))
    return _Area(serials.copy(), of_new, keys), {key: made.get(key) or blocks[key] for key in of_key}


def _key(serials: Numbers) -> bytes:
    return blake2b(serials.tobytes(), digest_size=16).digest()


def _bound_types(files: pa.Table, encoder: ManifestEncoder) -> list[pa.DataType | None]:
    statistics = files.schema.field("stats").type
    numbers = [statistics.get_field_index(column.name) for column in encoder.schema.bounded]
    return [statistics.field(number).type if number >= 0 else None for number in numbers]


def _encoded(order: EventOrder, blocks: Sequence[Numbers], encoder: ManifestEncoder) -> Iterator[Block]:
    """Yield the blocks of some files, each given by the positions of its files."""
    names = [*_USED, *(["stats"] if encoder.schema.bounded else [])]
    for some in _batches(blocks):
        positions, ends = np.concatenate(some), np.cumsum([len(block) for block in some])
        files = order.rows(positions, names)
        yield from encoder.blocks(_by_name(files, order.keys[positions], ends), ends.tolist())


def _batches(blocks: Sequence[Numbers]) -> Iterator[list[Numbers]]:
    some: list[Numbers] = []
    for block in blocks:
        if some and sum(map(len, some)) + len(block) > _ENCODED:
            yield some
            some = []
        some.append(block)
    if some:
        yield some


def _by_name(files: pa.Table, keys: Numbers, ends: Numbers) -> pa.Table:
    """Return files of which those of a block that have equal keys are in the order of their names."""
    if np.diff(keys).all():
        return files
    block = np.searchsorted(ends, np.arange(len(files)), side="right")
    columns = pa.table({"block": block, "key": keys, "uri": files["uri"]})
    return files.take(pc.sort_indices(columns, sort_keys=[(name, "ascending") for name in columns.column_names]))
