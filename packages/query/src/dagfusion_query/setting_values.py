"""Reads the values of declared settings from variables and from tables of `dagfusion.toml`, and checks them."""

from collections.abc import Collection, Mapping
from dataclasses import Field
from typing import Any

from dagfusion_query.errors import SettingsError


def read_values(
    settings: Collection["Field[Any]"], variables: Mapping[str, str], table: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of settings, by field name: from variables, else from their table of `dagfusion.toml`.

    Raises:
        SettingsError: A value is one that its setting cannot have.
    """
    values = {}
    for field in settings:
        variable, section = field.metadata["variable"], field.metadata["section"]
        if variables.get(variable):
            values[field.name] = checked(field, variable, variables[variable])
        elif field.name in (table or {}):
            values[field.name] = checked(field, f"[{section}] {field.name}", (table or {})[field.name])
    return values


def checked(field: "Field[Any]", where: str, value: Any) -> Any:
    """Return a value in the type of its setting.

    Args:
        field: The setting.
        where: What the message calls it.
        value: As it was written.

    Raises:
        SettingsError: The setting cannot have it.
    """
    kind = type(field.default)
    return _number(field, kind, where, value) if kind in (int, float) else _text(field, where, str(value))


def check_pair(one: tuple[str, object], other: tuple[str, object]) -> None:
    """Refuse two settings of which only one has a value.

    Args:
        one: Its name and its value.
        other: The same of the other.

    Raises:
        SettingsError: One has a value, and one has none.
    """
    if bool(one[1]) != bool(other[1]):
        raise SettingsError(f"{one[0]} and {other[0]} must be set together, got only one")


def _text(field: "Field[Any]", where: str, text: str) -> str:
    choices, accepts = field.metadata["choices"], field.metadata["accepts"]
    if choices and text not in choices:
        raise SettingsError(f"{where} must be one of {', '.join(choices)}, got {text!r}")
    if accepts is not None and not accepts(text):
        shown = "" if "@" in text else f", got {text!r}"  # it may have a password
        raise SettingsError(f"{where} must be {field.metadata['requirement']}{shown}")
    return text


def _number(field: "Field[Any]", kind: type[int | float], where: str, value: Any) -> int | float:
    numbers = field.metadata["numbers"]
    try:
        number = kind(str(value))  # as text: 2.5 is no whole number
    except ValueError:
        number = -1
    if numbers is not None and number not in numbers:
        raise SettingsError(f"{where} must be a whole number from {numbers[0]} to {numbers[-1]}, got {value!r}")
    if numbers is None and not number > 0:  # so that NaN is refused, too
        raise SettingsError(f"{where} must be a positive {'whole ' if kind is int else ''}number, got {value!r}")
    return number
