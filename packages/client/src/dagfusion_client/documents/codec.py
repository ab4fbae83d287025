"""Dataclasses as JSON, back from JSON, and as JSON Schemas. All three follow from the fields and their types.

| Field | JSON |
|---|---|
| `str`, `int`, `float`, `bool`, an enum of texts | the value |
| `datetime` | ISO 8601 |
| `X | None` | null, or left out if the field is an `omitted` one |
| `Sequence[X]`, `tuple[X, ...]` | array |
| `Mapping[str, X]` | object |
| a dataclass | object |

A reader ignores fields that it does not know, and gives a field that is missing its default: the other side may be
newer or older.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson

T = TypeVar("T")
_SCALARS: Mapping[type, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}


class DocumentError(ValueError):
    """A document has not the fields or types that it must have.

    Attributes:
        name: The field of the document that has another type; None if it is something else.
    """

    def __init__(self, text: str, name: str | None = None) -> None:
        super().__init__(text)
        self.name = name


def omitted(kind: Any = None) -> Any:
    """Return a field that is left out of the document where it is None.

    Args:
        kind: The type that its schema shows; None for the field's own.
    """
    return field(default=None, metadata={"omitted": True, **({} if kind is None else {"shown_as": kind})})


def shown_as(kind: Any) -> Any:
    """Return a field whose schema is that of another type: of rows that are no dataclasses, because they are many."""
    return field(metadata={"shown_as": kind})


def encode(value: object) -> bytes:
    """Write a value as JSON: dataclasses by their fields, moments in ISO 8601."""
    options = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    return orjson.dumps(value, default=_as_json, option=options)


def read(kind: type[T], document: object) -> T:
    """Make a value of a parsed document.

    Raises:
        DocumentError: A field is missing, or has another type.
    """
    read_one: Callable[[Any], T] = _reader(cast("Any", kind))
    return read_one(document)


def details(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields by name, without those that are left out."""
    kind: Any = type(value)
    found = ((name, getattr(value, name), omit) for name, omit in _names(kind))
    return {name: inner for name, inner, omit in found if inner is not None or not omit}


def schemas(*kinds: type) -> dict[str, Mapping[str, Any]]:
    """Return the JSON Schemas of dataclasses, and of those that they hold, by name: `TableDocument` is `Table`.

    Descriptions are those of the attributes in the classes' docstrings.
    """
    found: dict[str, Mapping[str, Any]] = {}
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop(0)
        if (name := _name(kind)) not in found:
            found[name] = _object(kind, waiting)
    return found


def _as_json(value: Any) -> Any:
    if is_dataclass(value):
        return details(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    return str(value)  # decimals, durations, and what else Arrow has


@cache
def _names(kind: type) -> Sequence[tuple[str, bool]]:
    return [(each.name, _is_omitted(each)) for each in dataclasses.fields(kind)]


def _is_omitted(each: "Field[Any]") -> bool:
    return bool(each.metadata.get("omitted"))


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return what reads a value of a type."""
    if (origin := get_origin(kind)) is not None:
        return _reader_of_parts(origin, get_args(kind))
    if is_dataclass(kind):
        return _Reader(cast("type", kind))
    if kind is datetime:
        return lambda value: _converted(datetime.fromisoformat, value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return lambda value: _converted(kind, value)
    if kind is Any:
        return lambda value: value
    allowed = _SCALARS[kind]
    return lambda value: _checked(value, *allowed)


def _reader_of_parts(origin: Any, arguments: Sequence[Any]) -> Callable[[Any], Any]:
    if origin in (Union, types.UnionType):
        return _either([_reader(a) for a in arguments if a is not types.NoneType], types.NoneType in arguments)
    if origin is Mapping:
        read = _reader(arguments[1])
        return lambda value: {name: read(inner) for name, inner in _checked(value, dict).items()}
    item, made = _reader(arguments[0]), tuple if origin is tuple else list
    return lambda value: made(map(item, _checked(value, list)))


def _either(readers: Sequence[Callable[[Any], Any]], can_be_null: bool) -> Callable[[Any], Any]:  # noqa: FBT001
    """Return what reads a value of one of several types: as the first one that it fits."""

    def read_one(value: Any) -> Any:
        if value is None and can_be_null:
            return None
        for inner in readers[:-1]:
            try:
                return inner(value)
            except DocumentError:
                continue
        return readers[-1](value)

    return read_one


class _Reader:
    """Reads objects as a dataclass; the types are looked up at the first use, so that classes may hold each other."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._fields: Sequence[tuple[str, Callable[[Any], Any], bool]] | None = None

    def __call__(self, value: Any) -> Any:
        document = _checked(value, dict)
        if self._fields is None:
            hints = get_type_hints(self._kind)
            self._fields = [
                (each.name, _reader(hints[each.name]), _is_required(each)) for each in dataclasses.fields(self._kind)
            ]
        values = {}
        for name, inner, required in self._fields:
            if name not in document:
                if required:
                    raise DocumentError(f"{_name(self._kind)} has no {name}")
                continue
            try:
                values[name] = inner(document[name])
            except DocumentError as error:
                raise DocumentError(f"{_name(self._kind)}.{name}: {error}", name) from None
        return self._kind(**values)


def _is_required(each: "Field[Any]") -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _checked(value: Any, *allowed: type) -> Any:
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise DocumentError(f"{str(value)[:100]!r} is no {allowed[-1].__name__}")
    return value


def _converted(convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except (TypeError, ValueError) as error:
        raise DocumentError(str(error)) from None


def _name(kind: type) -> str:
    return kind.__name__.removesuffix("Document")


def _object(kind: type, waiting: list[type]) -> Mapping[str, Any]:
    hints, about = get_type_hints(kind), _described(kind)
    properties: dict[str, Mapping[str, Any]] = {}
    for each in dataclasses.fields(kind):
        of = _schema(each.metadata.get("shown_as", hints[each.name]), waiting)
        description = about.get(each.name)
        properties[each.name] = of if description is None else {**of, "description": description}
    required = [each.name for each in dataclasses.fields(kind) if not _is_omitted(each)]
    return {"type": "object", "required": required, "properties": properties}


def _schema(kind: Any, waiting: list[type]) -> Mapping[str, Any]:
    if (origin := get_origin(kind)) is not None:
        return _schema_of_parts(origin, get_args(kind), waiting)
    if is_dataclass(kind):
        waiting.append(cast("type", kind))
        return {"$ref": f"#/components/schemas/{_name(cast('type', kind))}"}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [str(member) for member in kind]}
    return _PLAIN[kind]


def _schema_of_parts(origin: Any, arguments: Sequence[Any], waiting: list[type]) -> Mapping[str, Any]:
    kinds = [_schema(part, waiting) for part in arguments if part not in (types.NoneType, Ellipsis)]
    if origin is Mapping:
        return {"type": "object", "additionalProperties": kinds[1]}
    if origin not in (Union, types.UnionType):
        return {"type": "array", "items": kinds[0]}
    if types.NoneType not in arguments:
        return {"oneOf": kinds}
    inner = kinds[0] if len(kinds) == 1 else {"oneOf": kinds}
    return {**inner, "type": [inner["type"], "null"]} if "type" in inner else {"oneOf": [inner, {"type": "null"}]}


_PLAIN: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},  # all of them count something
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}


@cache
def _described(kind: type) -> Mapping[str, str]:
    """Return what the docstrings of a class and of its bases say of their attributes."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        name = ""
        for line in (base.__doc__ or "").partition("Attributes:")[2].splitlines():
            head, separator, text = line.strip().partition(": ")
            if separator and head.isidentifier() and line.startswith("        ") and not line.startswith("         "):
                name, found[head] = head, text
            elif name and line.strip():
                found[name] += f" {line.strip()}"
    return found
