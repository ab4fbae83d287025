"""IAM's decision about a request, for the elements of policies that `deploy/aws/` uses; it fails on others.

A Deny that applies wins, then an Allow, and everything else is denied (AWS: "Policy evaluation logic").
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}


def allows(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Return whether the policies together allow an action on a resource.

    Args:
        documents: Policy documents without intrinsic functions.
        action: Such as `s3:GetObject`.
        resource: An ARN.
        context: The condition keys of the request.
    """
    effects = {
        statement["Effect"]
        for document in documents
        for statement in document["Statement"]
        if _applies(statement, action, resource, context or {})
    }
    return "Allow" in effects and "Deny" not in effects


def denies(document: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Return whether a policy denies a request explicitly, whatever other policies allow."""
    return any(
        statement["Effect"] == "Deny" and _applies(statement, action, resource, context)
        for statement in document["Statement"]
    )


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    assert set(statement) <= _ELEMENTS, f"an element that this evaluator does not know: {statement}"
    return (
        any(matches(pattern.lower(), action.lower()) for pattern in _listed(statement["Action"]))
        and any(matches(pattern, resource) for pattern in _listed(statement["Resource"]))
        and all(_holds(operator, keys, context) for operator, keys in statement.get("Condition", {}).items())
    )


def _holds(operator: str, keys: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    assert operator in ("StringLike", "StringEquals", "ArnEquals", "Bool"), f"an unknown operator: {operator}"
    if operator in ("StringEquals", "Bool"):
        return all(context.get(key) in _listed(values) for key, values in keys.items())
    return all(
        key in context and any(matches(pattern, context[key]) for pattern in _listed(values))
        for key, values in keys.items()
    )


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def matches(pattern: str, text: str) -> bool:
    """Return whether a pattern matches; `${*}`, `${?}` and `${$}` are characters without their meaning."""
    tokens = re.findall(r"\$\{[*?$]\}|.", pattern, re.DOTALL)
    meanings = {"*": ".*", "?": "."}
    translated = "".join(
        re.escape(token[2]) if len(token) > 1 else meanings.get(token, re.escape(token)) for token in tokens
    )
    return re.fullmatch(translated, text, re.DOTALL) is not None
