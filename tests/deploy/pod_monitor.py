"""The fields of a PodMonitor of the Prometheus operator that the chart uses, as a JSON Schema.

No package for these Pythons has the operator's schemas. This one is by its API reference, `monitoring.coreos.com/v1`
(operator 0.93), and strict: a field that the chart does not use is refused like one that does not exist.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]


def _fields(required: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_SECRET_KEY = _fields("name key", name=_TEXT, key=_TEXT)
_ENDPOINT = _fields(
    "port path scheme",
    port=_TEXT,
    path={"type": "string", "pattern": "^/"},
    scheme={"enum": ["http", "https"]},
    interval={"type": "string", "pattern": r"^(?=\d)(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"},
    tlsConfig=_fields("", insecureSkipVerify={"type": "boolean"}),
    authorization=_fields("credentials", type=_TEXT, credentials=_SECRET_KEY),
)
_POD_MONITOR = _fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "monitoring.coreos.com/v1"},
    kind={"const": "PodMonitor"},
    metadata=_fields("name", name=_TEXT, labels=_TEXTS),
    spec=_fields(
        "selector podMetricsEndpoints",
        selector=_fields("matchLabels", matchLabels=_TEXTS),
        podMetricsEndpoints={"type": "array", "minItems": 1, "items": _ENDPOINT},
    ),
)


def validate(document: Mapping[str, Any]) -> None:
    """Refuse a manifest that is no PodMonitor of these fields.

    Raises:
        jsonschema.ValidationError: It is not.
    """
    jsonschema.validate(document, _POD_MONITOR)
