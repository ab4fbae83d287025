"""Declares settings. A setting is a field of a frozen dataclass, with its variable, its default and its meaning.

All else follows from the declaration: reading it from variables and from `dagfusion.toml` (`setting_values.py`),
validation, the options of commands, and the page of settings. `environments.py` has the settings that packages share.
The others are in `settings.py` and `service_settings.py` of the query side, `environment.py` of the pipeline and
`settings.py` of the stack. After a change, `scripts/reference.py` writes the page again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any

REQUIRED: Any = MISSING
"""The default of a setting that has none, or one that depends on others."""


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
