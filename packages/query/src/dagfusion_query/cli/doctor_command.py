"""The command `dagfusion doctor`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagfusion_query.cli.command_process import interruptibly
from dagfusion_query.cli.options import Environment, EventLog
from dagfusion_query.cli.service_commands import ConfigFile
from dagfusion_query.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagfusion_query.doctor.examination import Diagnosis
    from dagfusion_query.doctor.fault import Fault

FAULTS, NOT_EXAMINED = 1, 2  # exit codes

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document, for programs.")]
MaxObjects = Annotated[
    int, typer.Option("--max-objects", min=1, help="The most objects of an environment that are listed.")
]
OrphansAfter = Annotated[
    float,
    typer.Option("--orphans-after-hours", min=0, help="The age from which an object that no event names is a fault."),
]


def doctor(
    *,
    config: ConfigFile = None,
    event_log: EventLog = None,
    environment: Environment = None,
    as_json: Json = False,
    max_objects: MaxObjects = 100_000,
    orphans_after_hours: OrphansAfter = 24.0,
) -> None:
    """Examine the database, the buckets, the tables and the settings, and say what to do.

    Nothing is changed. The exit code is 0 for a healthy environment, 1 for faults, and 2 if something could not be
    examined and the rest has no fault.
    """
    try:
        found, faults = interruptibly(
            lambda: _examined(config, event_log, environment, max_objects, orphans_after_hours)
        )
    except QueryError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(NOT_EXAMINED) from None
    show = _show_json if as_json else _show
    show(found, faults)
    if faults or any(one.faults for one in found):
        raise typer.Exit(FAULTS)
    if any(one.unknown for one in found):
        raise typer.Exit(NOT_EXAMINED)


def _examined(
    file: Path | None, event_log: str | None, environment: str | None, max_objects: int, orphans_after_h: float
) -> "tuple[list[Diagnosis], list[Fault]]":
    """Return what was found of each environment, and the faults of the service's settings."""
    from dagfusion_query.config import read_config  # noqa: PLC0415
    from dagfusion_query.doctor.examination import Scope, examine  # noqa: PLC0415  # imports the catalog
    from dagfusion_query.doctor.settings_checks import check_service  # noqa: PLC0415

    read = read_config(os.environ, file=file, event_log=event_log, environment=environment)
    scope = Scope(max_objects=max_objects, orphans_after_h=orphans_after_h)
    return [examine(one, scope) for one in read.environments], [*check_service(read.service)]


def _show(found: "Sequence[Diagnosis]", faults: "Sequence[Fault]") -> None:
    for fault in (*faults, *(fault for one in found for fault in one.faults)):
        typer.echo(f"{fault.name}  {fault.where}\n  {fault.what}\n  next: {fault.next_step}")
    for one in found:
        for unknown in one.unknown:
            typer.echo(f"not examined: {unknown.check}  {unknown.where}\n  {unknown.why}", err=True)
    if not faults and not any(one.faults or one.unknown for one in found):
        typer.echo("healthy")


def _show_json(found: "Sequence[Diagnosis]", faults: "Sequence[Fault]") -> None:
    import orjson  # noqa: PLC0415

    healthy = not faults and not any(one.faults or one.unknown for one in found)
    document = {
        "healthy": healthy,
        "faults": [asdict(fault) for fault in faults],
        "environments": [asdict(one) for one in found],
    }
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
