"""The command `dagfusion doctor`: examines environments, and has their event logs repaired."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_cli.doctor_document import DiagnosisDocument, DoctorDocument, RepairDocument, UnrepairedFault
from dagfusion_cli.environment_commands import JsonOption, estimate_document
from dagfusion_cli.interrupts import interruptibly
from dagfusion_cli.options import EnvironmentOption, EventLogOption
from dagfusion_cli.service_commands import ConfigFileOption
from dagfusion_client.errors import MissingExtraError, QueryError, SettingsError
from dagfusion_contract.repair import REPAIR, FailedRepair, RepairTables
from dagfusion_query.service_settings import LISTED_OBJECTS, ORPHANS_AFTER_H
from dagfusion_query.settings import Settings

if TYPE_CHECKING:
    from dagfusion_cli.doctor.checks import Fault
    from dagfusion_cli.doctor.examination import Diagnosis
    from dagfusion_query.cost.estimate import Estimate, Prices

FAULTS, NOT_EXAMINED = 1, 2  # exit codes
_ORPHANED = "objects_orphaned"
_ORPHANS = "nothing is logged for orphaned objects: the vacuum deletes those of earlier runs; delete others by hand"

MaxObjectsOption = Annotated[
    int, typer.Option("--max-objects", min=1, help="The maximum number of objects listed per environment.")
]
OrphansAfterOption = Annotated[
    float,
    typer.Option(
        "--orphans-after-hours", min=0, help="The age in hours from which an object without an event is a fault."
    ),
]
RepairOption = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Plan the repair of the event log for tables with missing or changed objects. Needs dagfusion-pipeline, "
        "and DAGSTER_HOME with the variables of the IO managers, or the local stack of the folder.",
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="With --repair: log the events. Without --yes, it is a dry run.")
]


def doctor(
    *,
    config: ConfigFileOption = None,
    event_log: EventLogOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
    max_objects: MaxObjectsOption = LISTED_OBJECTS,
    orphans_after_hours: OrphansAfterOption = ORPHANS_AFTER_H,
    repair: RepairOption = False,
    yes: YesOption = False,
) -> None:
    """Examine the database, the buckets, the tables and the settings, and suggest fixes.

    Nothing is changed, except by --repair --yes. The exit code is 0 for a healthy environment, 1 for faults, also for
    those that are repaired, and 2 if something could not be examined and the rest has no fault.
    """
    if yes and not repair:
        raise typer.BadParameter("--yes is for --repair")
    try:
        repair_tables = _installed_repair(event_log) if repair else None
        found, faults = interruptibly(
            lambda: _examined(config, event_log, environment, max_objects, orphans_after_hours)
        )
        costs, prices = _costs(found)
    except QueryError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(NOT_EXAMINED) from None
    if not as_json:
        _show(found, faults)  # before the repair, which may fail
    repairs = None if repair_tables is None else _repaired(found, repair_tables, dry_run=not yes)
    if as_json:
        typer.echo(_document(found, faults, costs, prices, repairs).encode())
    else:
        _show_repairs_and_costs(repairs, costs, prices)
    if faults or any(one.faults for one in found):
        raise typer.Exit(FAULTS)
    if any(one.unknown for one in found):
        raise typer.Exit(NOT_EXAMINED)


def _examined(
    file: Path | None, event_log: str | None, environment: str | None, max_objects: int, orphans_after_h: float
) -> "tuple[list[Diagnosis], list[Fault]]":
    """Return what was found of each environment, and the faults of the service's settings."""
    from dagfusion_cli.doctor.checks import check_service  # noqa: PLC0415
    from dagfusion_cli.doctor.examination import Scope, examine  # noqa: PLC0415  # imports the catalog
    from dagfusion_query.config import read_config  # noqa: PLC0415

    read = read_config(os.environ, file=file, event_log=event_log, environment=environment)
    scope = Scope(max_objects=max_objects, orphans_after_h=orphans_after_h)
    return [examine(one, scope) for one in read.environments], [*check_service(read.service)]


def _costs(found: "Sequence[Diagnosis]") -> "tuple[dict[str, Estimate | None], Prices]":
    from dagfusion_cli.gathered_costs import storage_estimate  # noqa: PLC0415
    from dagfusion_query.cost.estimate import read_prices  # noqa: PLC0415  # imports numpy

    prices = read_prices()
    return {one.environment: storage_estimate(one, prices, datetime.now(UTC)) for one in found}, prices


def _installed_repair(event_log: str | None) -> RepairTables:
    """Return the function of the pipeline that repairs tables.

    Raises:
        MissingExtraError: The pipeline is not installed.
        SettingsError: DAGSTER_HOME is not set, and the folder has no local stack.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415

    entries = entry_points(group=REPAIR)
    if not entries:
        raise MissingExtraError(
            "--repair needs the package dagfusion-pipeline, which is not installed: pip install dagfusion-pipeline"
        )
    is_local_stack = event_log is None and Settings.read(os.environ).is_local_stack
    if not os.environ.get("DAGSTER_HOME") and not is_local_stack:
        raise SettingsError("--repair needs DAGSTER_HOME, the folder of the Dagster instance; it is not set")
    found: RepairTables = next(iter(entries)).load()
    return found


def _repaired(found: "Sequence[Diagnosis]", repair_tables: RepairTables, *, dry_run: bool) -> RepairDocument:
    """Repair the missing and changed objects that were found; return what is, or would be, logged, and what is left."""
    objects = {table: uris for one in found for table, uris in one.differing.items()}
    endpoints = {table: one.endpoint_url for one in found for table in one.differing}
    orphaned = sorted({fault.where for one in found for fault in one.faults if fault.name == _ORPHANED})
    tables = repair_tables(dict(sorted(objects.items())), endpoints, dry_run=dry_run)
    return RepairDocument(dry_run, tables, [UnrepairedFault(table, _ORPHANED, _ORPHANS) for table in orphaned])


def _is_healthy(found: "Sequence[Diagnosis]", faults: "Sequence[Fault]") -> bool:
    return not faults and not any(one.faults or one.unknown for one in found)


def _show(found: "Sequence[Diagnosis]", faults: "Sequence[Fault]") -> None:
    for fault in (*faults, *(fault for one in found for fault in one.faults)):
        typer.echo(f"{fault.name}  {fault.where}\n  {fault.what}\n  next: {fault.next_step}")
    for one in found:
        for unknown in one.unknown:
            typer.echo(f"not examined: {unknown.check}  {unknown.where}\n  {unknown.why}", err=True)
    if _is_healthy(found, faults):
        typer.echo("healthy")


def _show_repairs_and_costs(
    repairs: RepairDocument | None, costs: "Mapping[str, Estimate | None]", prices: "Prices"
) -> None:
    if repairs is not None:
        _show_repairs(repairs)
    for name, estimate in costs.items():
        if estimate is not None:
            typer.echo(_cost_line(name, estimate, prices))


def _show_repairs(repairs: RepairDocument) -> None:
    for done in repairs.tables:
        if isinstance(done, FailedRepair):
            typer.echo(f"not repaired: {done.table}\n  {done.error}", err=True)
        else:
            typer.echo(done.described(dry_run=repairs.dry_run))
    for left in repairs.left:
        typer.echo(f"not repaired: {left.table}\n  {left.why}")
    if repairs.dry_run and any(done.missing or done.changed for done in repairs.repaired):
        typer.echo("This is a dry run. Add --yes to log them.")
    elif not repairs.tables:
        typer.echo("repair: no event to log")


def _cost_line(name: str, estimate: "Estimate", prices: "Prices") -> str:
    from dagfusion_client.preview import counted  # noqa: PLC0415  # imports pyarrow

    (month,) = estimate.months
    objects, gib = sum(one.objects for one in month.classes), sum(one.gb for one in month.classes)
    return (
        f"cost of {name}: ${estimate.usd:,.2f} a month for {counted(objects, 'object')} ({gib:,.3f} GiB) and their"
        f" uploads, at prices of {prices.region}, {prices.date}. `dagfusion cost` adds the requests of queries"
    )


def _document(
    found: "Sequence[Diagnosis]",
    faults: "Sequence[Fault]",
    costs: "Mapping[str, Estimate | None]",
    prices: "Prices",
    repairs: RepairDocument | None,
) -> DoctorDocument:
    documents = {name: None if one is None else estimate_document(one) for name, one in costs.items()}
    environments = [
        DiagnosisDocument(one.environment, one.faults, one.unknown, documents[one.environment]) for one in found
    ]
    return DoctorDocument(_is_healthy(found, faults), faults, environments, prices, repairs)
