"""How a setting is declared: as a field of a frozen dataclass, with its variable, its default and its meaning.

All else follows from the declaration: what is read from variables and from `dagfusion.toml`, what is refused, the
options of commands, and the page of settings. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any

from dagfusion_query.errors import SettingsError


def setting(  # one row of a table
    variable: str,
    default: Any,
    help_text: str,
    *,
    shown: str = "",
    section: str = "",
    choices: Sequence[str] = (),
    is_path: bool = False,
    is_secret: bool = False,
) -> Any:
    """Declare a setting. The type of the default says what its values are: positive numbers, or texts.

    Args:
        variable: The environment variable.
        default: Its value where nothing is said.
        help_text: Its meaning, with the unit.
        shown: The default as documents show it, where it depends on something.
        section: The table of `dagfusion.toml` that may have it, by the field's name.
        choices: The values that it can have, if they are few.
        is_path: Whether it is a path; in `dagfusion.toml`, relative to the file.
        is_secret: Whether it is shown nowhere.
    """
    metadata = {
        "variable": variable,
        "help": help_text,
        "shown": shown,
        "section": section,
        "choices": choices,
        "is_path": is_path,
    }
    return field(default=default, repr=not is_secret, metadata=metadata)


def declared(kind: Any, section: str | None = None) -> list["Field[Any]"]:
    """Return the settings of a class, or only those of one table of `dagfusion.toml`."""
    found = [known for known in fields(kind) if "variable" in known.metadata]
    return [known for known in found if section is None or known.metadata["section"] == section]


def names(kind: Any, section: str | None = None) -> tuple[str, ...]:
    """Return the names of `declared` settings."""
    return tuple(known.name for known in declared(kind, section))


def meaning(kind: Any, name: str) -> str:
    """Return what a setting means."""
    return next(str(known.metadata["help"]) for known in declared(kind) if known.name == name)


def as_variables(kind: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Return values by field name as the variables that say the same; None is not said."""
    by_name = {known.name: known.metadata["variable"] for known in declared(kind)}
    return {by_name[name]: str(value) for name, value in values.items() if value is not None}


def given(
    settings: Collection["Field[Any]"], variables: Mapping[str, str], table: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is said of settings, by field name: by variables, else by their table of `dagfusion.toml`.

    Raises:
        SettingsError: A value is one that its setting cannot have.
    """
    values = {}
    for known in settings:
        variable, section = known.metadata["variable"], known.metadata["section"]
        if variables.get(variable):
            values[known.name] = _value(known, variable, variables[variable])
        elif known.name in (table or {}):
            values[known.name] = _value(known, f"[{section}] {known.name}", (table or {})[known.name])
    return values


def _value(known: "Field[Any]", where: str, said: Any) -> Any:
    kind, choices = type(known.default), known.metadata["choices"]
    if kind not in (int, float):
        if choices and str(said) not in choices:
            raise SettingsError(f"{where} must be one of {', '.join(choices)}, got {str(said)!r}")
        return str(said)
    try:
        value = kind(str(said))  # as text: 2.5 is no whole number
    except ValueError:
        value = 0
    if not value > 0:  # so that NaN is refused, too
        raise SettingsError(f"{where} must be a positive {'whole ' if kind is int else ''}number, got {said!r}")
    return value
