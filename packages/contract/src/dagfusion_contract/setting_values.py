"""Reads the values of declared settings from variables and from tables of `dagfusion.toml`, and checks them."""

from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass
from typing import Any

_LONGEST_ECHO = 80


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
        for field in settings:
            variable, section = field.metadata["variable"], field.metadata["section"]
            if variables.get(variable):
                values[field.name] = self.checked(field, variable, variables[variable])
            elif field.name in (table or {}):
                values[field.name] = self.checked(field, f"[{section}] {field.name}", (table or {})[field.name])
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
