"""The templates of `deploy/aws/`, and the values that CloudFormation would make of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cfnlint.decode import decode_str

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-2",
    "AWS::StackName": "dagfusion",
}
_NO_VALUE = object()
_REFERENCE = re.compile(r"\$\{([^}]+)\}")


def template(path: Path) -> Mapping[str, Any]:
    """Read a template, with its intrinsic functions in their long form."""
    parsed, problems = decode_str(path.read_text())
    assert problems == []
    assert isinstance(parsed, Mapping)
    return parsed


class Resolver:
    """Replaces intrinsic functions by values: of parameters, pseudo parameters, and ARNs made from names.

    Args:
        document: The template.
        parameters: Beside the defaults.
        imports: What `Fn::ImportValue` gives.
    """

    def __init__(
        self, document: Mapping[str, Any], parameters: Mapping[str, str], imports: Mapping[str, str] | None = None
    ) -> None:
        defaults = {n: p["Default"] for n, p in document["Parameters"].items() if "Default" in p}
        self._known = {**PSEUDO, **defaults, **parameters}
        self._document, self._imports = document, imports or {}

    def __call__(self, value: Any) -> Any:
        """Return a value without intrinsic functions."""
        if isinstance(value, list):
            return [found for item in value if (found := self(item)) is not _NO_VALUE]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if (evaluate := self._functions.get(function)) is not None:
                return evaluate(argument)
        return {key: self(item) for key, item in value.items()}

    @property
    def _functions(self) -> Mapping[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda path: self._attribute(path[0], ".".join(path[1:])),
            "Fn::Sub": lambda given: (
                self._sub(given, {}) if isinstance(given, str) else self._sub(given[0], self(given[1]))
            ),
            "Fn::ImportValue": lambda name: self._imports[self(name)],
            "Fn::If": lambda path: self(path[1] if self._holds(self._document["Conditions"][path[0]]) else path[2]),
            "Fn::FindInMap": lambda path: self._document["Mappings"][path[0]][self(path[1])][self(path[2])],
        }

    def _holds(self, condition: Mapping[str, Any]) -> bool:
        [(function, argument)] = condition.items()
        if function == "Fn::Not":
            return not self._holds(argument[0])
        assert function == "Fn::Equals", f"an unknown condition: {condition}"
        return bool(self(argument[0]) == self(argument[1]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        return str(self._known[name]) if name in self._known else f"ref-{name}"

    def _attribute(self, name: str, attribute: str) -> str:
        resource = self._document["Resources"][name]
        if (resource["Type"], attribute) == ("AWS::S3::Bucket", "Arn"):
            return f"arn:aws:s3:::{self(resource['Properties']['BucketName'])}"
        return f"arn:aws:{name}:{attribute}"

    def _sub(self, text: str, names: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return names[name]
            resource, _, attribute = name.partition(".")
            return self._attribute(resource, attribute) if attribute else self._ref(name)

        return _REFERENCE.sub(value, text)


def needed_before(document: Mapping[str, Any], name: str) -> set[str]:
    """Return the logical names of the resources that CloudFormation creates before one."""
    found, left = set[str](), [name]
    while left:
        new = {one for one in _references(document["Resources"][left.pop()]) if one in document["Resources"]} - found
        found |= new
        left += new
    return found


def _references(value: Any) -> Iterator[str]:
    """Yield the names in `DependsOn`, `Ref`, `Fn::GetAtt` and `Fn::Sub`."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("Ref", "DependsOn"):
                yield from [item] if isinstance(item, str) else item
            elif key == "Fn::GetAtt":
                yield item[0]
            elif key == "Fn::Sub":
                text, names = (item, {}) if isinstance(item, str) else item
                yield from (match.partition(".")[0] for match in _REFERENCE.findall(text))
                yield from _references(names)
            else:
                yield from _references(item)


def resources(document: Mapping[str, Any], kind: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the properties of the resources of one type, by their logical names."""
    return {n: r["Properties"] for n, r in document["Resources"].items() if r["Type"] == kind}


def containers(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each container of the task definitions, with the logical name of its task."""
    for name, task in resources(document, "AWS::ECS::TaskDefinition").items():
        for container in task["ContainerDefinitions"]:
            yield name, container
