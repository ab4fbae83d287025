"""The JSON of `dagfusion doctor`, as dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagfusion_contract.repair import FailedRepair, RepairedTable

if TYPE_CHECKING:
    from dagfusion_cli.doctor.checks import Fault, Unknown
    from dagfusion_query.cost.estimate import Prices


@dataclass(frozen=True)
class UnrepairedFault:
    """A fault of a table that no repair changes.

    Attributes:
        table: The table's name, with its schema.
        fault: The name of the fault.
        why: The reason, and what to do.
    """

    table: str
    fault: str
    why: str


@dataclass(frozen=True)
class RepairDocument:
    """The repair of all tables, or its dry run.

    Attributes:
        dry_run: Whether nothing was logged.
        tables: The tables with missing and changed objects.
        left: The faults that stay.
    """

    dry_run: bool
    tables: Sequence[RepairedTable | FailedRepair]
    left: Sequence[UnrepairedFault]

    @property
    def repaired(self) -> list[RepairedTable]:
        """The tables whose repair did not fail."""
        return [one for one in self.tables if isinstance(one, RepairedTable)]


@dataclass(frozen=True)
class DiagnosisDocument:
    """The examination of one environment.

    Attributes:
        environment: Its name.
        faults: The faults of its database, buckets and tables.
        unknown: The checks that were not possible.
        cost: The estimate, with the fields of `dagfusion cost --json`; None if the objects could not be listed.
    """

    environment: str
    faults: "Sequence[Fault]"
    unknown: "Sequence[Unknown]"
    cost: Mapping[str, object] | None


@dataclass(frozen=True)
class DoctorDocument:
    """The whole examination.

    Attributes:
        healthy: True if there is no fault, and all was examined.
        faults: The faults of the service's settings.
        environments: All that were examined.
        prices: The prices of the estimates.
        repair: None without `--repair`; the JSON leaves it out then.
    """

    healthy: bool
    faults: "Sequence[Fault]"
    environments: Sequence[DiagnosisDocument]
    prices: "Prices"
    repair: RepairDocument | None

    def encode(self) -> bytes:
        """Return the document as indented JSON."""
        import orjson  # noqa: PLC0415

        present = {name: value for name, value in vars(self).items() if value is not None}
        return orjson.dumps(present, option=orjson.OPT_INDENT_2)
