"""Declares settings, and reads their values.

A setting is declared as a field of a frozen dataclass, with its variable, its default and its meaning. All else follows
from the declaration: reading it from variables and from `dagfusion.toml`, validation, the options of commands, and the
page of settings. `settings.py`, `service_settings.py` and the stack's `settings.py` have the settings. After a change,
`scripts/reference.py` writes the page again.
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
    numbers: range | None = None,
    is_path: bool = False,
    is_secret: bool = False,
) -> Any:
    """Declare a setting. Its values have the type of the default: text, or positive numbers.

    Args:
        variable: The environment variable.
        default: The value if nothing sets it.
        help_text: Its meaning, with the unit.
        shown: The default as documents show it, if it is not a constant.
        section: The table of `dagfusion.toml` that may have it, by the field's name.
        choices: The values that it can have, if they are few.
        numbers: The whole numbers that it can have, if not all positive ones.
        is_path: Whether it is a path; in `dagfusion.toml`, relative to the file.
        is_secret: Whether it is left out of `repr`.
    """
    metadata = {
        "variable": variable,
        "help": help_text,
        "shown": shown,
        "section": section,
        "choices": choices,
        "numbers": numbers,
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


def declaration(kind: Any, name: str) -> "Field[Any]":
    """Return the declaration of a setting."""
    (known,) = (known for known in declared(kind) if known.name == name)
    return known


def meaning(kind: Any, name: str) -> str:
    """Return what a setting means."""
    return str(declaration(kind, name).metadata["help"])


def option_help(kind: Any, name: str) -> str:
    """Return the help of an option that stands in for a variable."""
    known = declaration(kind, name).metadata
    sources = [known["variable"], *([known["shown"].replace("`", "")] if known["shown"] else [])]
    return f"{known['help']} Default: {', then '.join(sources)}."


def as_variables(kind: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Return values by field name as the variables that say the same; None is not said."""
    by_name = {known.name: known.metadata["variable"] for known in declared(kind)}
    return {by_name[name]: str(value) for name, value in values.items() if value is not None}


def read_values(
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
    numbers = known.metadata["numbers"]
    try:
        value = kind(str(said))  # as text: 2.5 is no whole number
    except ValueError:
        value = -1
    if numbers is not None and value not in numbers:
        raise SettingsError(f"{where} must be a whole number from {numbers[0]} to {numbers[-1]}, got {said!r}")
    if numbers is None and not value > 0:  # so that NaN is refused, too
        raise SettingsError(f"{where} must be a positive {'whole ' if kind is int else ''}number, got {said!r}")
    return value
