"""Declares settings and reads their values.

A setting is a field of a frozen dataclass, with its variable, its default and its meaning.

All else follows from the declaration: reading it from variables and from `dagfusion.toml`,
validation, the options of commands, and the page of settings. After a change, `scripts/reference.py` writes the page
again.

`environments.py` declares the settings that packages share. Each package declares its own settings: the query side in
`settings.py` and `service_settings.py`, the pipeline in `environment.py` and the stack in `settings.py`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

REQUIRED: Any = MISSING
"""The default of a setting that has none, or one that depends on others."""

_LONGEST_ECHO = 80  # characters of a refused value in a message


def setting(  # one row of a table
    variable: str,
    default: Any,
    help_text: str,
    *,
    shown: str = "",
    section: str = "",
    choices: Sequence[str] = (),
    numbers: range | None = None,
    accepts: Callable[[str], bool] | None = None,
    requirement: str = "",
    read: Callable[[str], Any] | None = None,
    is_path: bool = False,
    is_secret: bool = False,
) -> Any:
    """Declare a setting. Its values are what `read` makes of a text, else text or positive numbers, as the default is.

    Args:
        variable: The environment variable. `{NAME}` in it is the name of an environment.
        default: The value if nothing sets it.
        help_text: Its meaning, with the unit.
        shown: The default as documents show it, if it is not a constant.
        section: The table of `dagfusion.toml` that may have it, by the field's name.
        choices: The values that it can have, if they are few.
        numbers: The whole numbers that it can have, if not all positive ones.
        accepts: Returns True for a text that it can have, if not all.
        requirement: What `accepts` accepts: the rest of a sentence with "must be".
        read: Makes the value from an accepted text, such as a set of names.
        is_path: Whether it is a path; in `dagfusion.toml`, relative to the file.
        is_secret: Whether it is left out of `repr`.
    """
    metadata = {
        "variable": variable,
        "kind": type(default),
        "help": help_text,
        "shown": shown,
        "section": section,
        "choices": choices,
        "numbers": numbers,
        "accepts": accepts,
        "requirement": requirement,
        "read": read,
        "is_path": is_path,
        "like": None,
        "inherits": False,
    }
    return field(default=default, repr=not is_secret, metadata=metadata)


def setting_like(kind: Any, name: str, default: Any = None, **changes: Any) -> Any:
    """Declare a setting that accepts the same values as one of another class.

    Args:
        kind: The other class.
        name: The field of it.
        default: The value if nothing sets it.
        changes: What else differs, by the arguments of `setting`: such as `variable`, `help_text` and `accepts`.
    """
    same = declaration(kind, name)
    changes = {"help" if key == "help_text" else key: value for key, value in changes.items()}
    return field(default=default, repr=same.repr, metadata={**same.metadata, **changes})


def setting_of_environment(variable: str, kind: Any, name: str, *, inherits: bool = False) -> Any:
    """Declare the setting of one of several environments that means the same as a setting of all.

    Args:
        variable: Its variable, with `{NAME}` for the name of the environment.
        kind: The class of the setting of all.
        name: The field of it.
        inherits: Whether an environment without it has the value of all; else it has the default.
    """
    default = None if inherits else declaration(kind, name).default
    return setting_like(kind, name, default, variable=variable, section="", like=(kind, name), inherits=inherits)


def declared(kind: Any, section: str | None = None) -> list["Field[Any]"]:
    """Return the settings of a class, or only those of one table of `dagfusion.toml`."""
    found = [each for each in fields(kind) if "variable" in each.metadata]
    return [each for each in found if section is None or each.metadata["section"] == section]


def names(kind: Any, section: str | None = None) -> tuple[str, ...]:
    """Return the names of `declared` settings."""
    return tuple(each.name for each in declared(kind, section))


def declaration(kind: Any, name: str) -> "Field[Any]":
    """Return the declaration of a setting."""
    (found,) = (each for each in declared(kind) if each.name == name)
    return found


def meaning(kind: Any, name: str) -> str:
    """Return what a setting means."""
    return str(declaration(kind, name).metadata["help"])


def option_help(kind: Any, name: str) -> str:
    """Return the help of an option that stands in for a variable."""
    metadata = declaration(kind, name).metadata
    sources = [metadata["variable"], *([metadata["shown"].replace("`", "")] if metadata["shown"] else [])]
    return f"{metadata['help']} Default: {', then '.join(sources)}."


def as_variables(kind: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Return values by field name as the variables that set them; None is left out."""
    by_name = {each.name: each.metadata["variable"] for each in declared(kind)}
    return {by_name[name]: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class SettingReader:
    """Reads settings for one package, and raises that package's error with one line.

    Attributes:
        error: The class of the error.
    """

    error: type[Exception]

    def read_values(
        self, settings: Collection["Field[Any]"], variables: Mapping[str, str], table: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the values of settings, by field name: from variables, else from their table of `dagfusion.toml`.

        An empty variable counts as not set. A value that is a secret is in no message.

        Raises:
            error: A value is one that its setting cannot have.
        """
        values = {}
        for each in settings:
            variable, section = each.metadata["variable"], each.metadata["section"]
            if variables.get(variable):
                values[each.name] = self.checked(each, variable, variables[variable])
            elif each.name in (table or {}):
                values[each.name] = self.checked(each, f"[{section}] {each.name}", (table or {})[each.name])
        return values

    def checked(self, field: "Field[Any]", where: str, value: Any) -> Any:
        """Return a value in the type of its setting.

        Args:
            field: The setting.
            where: What the message calls it.
            value: As it was written.

        Raises:
            error: The setting cannot have it.
        """
        kind = type(field.default) if field.default is not None else field.metadata["kind"]
        return self._number(field, kind, where, value) if kind in (int, float) else self._text(field, where, str(value))

    def check_pair(self, one: tuple[str, object], other: tuple[str, object]) -> None:
        """Refuse two settings of which only one has a value.

        Args:
            one: Its name and its value.
            other: The same of the other.

        Raises:
            error: One has a value, and one has none.
        """
        if bool(one[1]) != bool(other[1]):
            raise self.error(f"{one[0]} and {other[0]} must be set together, got only one")

    def refusal(self, where: str, requirement: str, value: object, *, is_secret: bool = False) -> Exception:
        """Return the error for a value that a setting cannot have.

        Args:
            where: What the message calls the setting.
            requirement: What it can have: the rest of a sentence with "must be".
            value: As it was written. If it may have a password, the message leaves it out; if it is long, it is cut.
            is_secret: Whether the setting is one, so that the message leaves the value out.
        """
        if is_secret or "@" in str(value):
            return self.error(f"{where} must be {requirement}")
        is_long = isinstance(value, str) and len(value) > _LONGEST_ECHO
        shown = f"{str(value)[:_LONGEST_ECHO]}..." if is_long else value
        return self.error(f"{where} must be {requirement}, got {shown!r}")

    def _text(self, field: "Field[Any]", where: str, text: str) -> Any:
        choices, accepts = field.metadata["choices"], field.metadata["accepts"]
        if choices and text not in choices:
            raise self.refusal(where, f"one of {', '.join(choices)}", text)
        if accepts is not None and not accepts(text):
            raise self.refusal(where, field.metadata["requirement"], text, is_secret=not field.repr)
        return text if field.metadata["read"] is None else field.metadata["read"](text)

    def _number(self, field: "Field[Any]", kind: type[int | float], where: str, value: Any) -> int | float:
        numbers = field.metadata["numbers"]
        try:
            number = kind(str(value))  # as text: 2.5 is no whole number
        except ValueError:
            number = -1
        if numbers is not None and number not in numbers:
            raise self.refusal(where, f"a whole number from {numbers[0]} to {numbers[-1]}", value)
        if numbers is None and not number > 0:  # so that NaN is refused, too
            raise self.refusal(where, f"a positive {'whole ' if kind is int else ''}number", value)
        return number
