"""Charts rendered by Helm's engine, and their manifests checked against Kubernetes' schemas."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml  # type: ignore[import-untyped]

from tests.deploy import rendering

Values = Mapping[str, Any]
Documents = Sequence[Mapping[str, Any]]

KUBERNETES = ("1.25", "1.30", "1.34")
_DEFINITIONS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema/v1.25.0-local/_definitions.json"
_BY_URL = re.compile(r"https://[^\"#]*/_definitions\.json#/definitions/")


def answers(chart: Path, values: Sequence[Values]) -> list[dict[str, Any]]:
    """Render a chart once with each of the values; return manifests by file, or Helm's error."""
    requests = json.dumps([{"chart": str(chart), "values": one} for one in values])
    done = subprocess.run(  # noqa: S603
        [sys.executable, rendering.__file__], input=requests, capture_output=True, text=True, check=True
    )
    given: list[dict[str, Any]] = json.loads(done.stdout)
    return given


def documents(answer: Mapping[str, Any]) -> Documents:
    """Return the manifests of an answer that is no error."""
    assert "error" not in answer, answer
    texts = (text for name, text in answer["manifests"].items() if not name.endswith(".txt"))  # the notes
    return [parsed for text in texts for parsed in yaml.safe_load_all(text) if parsed]


def only(documents: Documents, kind: str, name: str = "") -> Mapping[str, Any]:
    """Return the one manifest of a kind whose name ends with `name`."""
    [found] = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(name)]
    return found


def with_local_definitions(chart: Path, folder: Path) -> Path:
    """Copy a chart whose schemas name the definitions of Kubernetes by a URL, with local ones in their place."""
    copy = shutil.copytree(chart, folder / chart.name)
    for schema in copy.rglob("values.schema.json"):
        schema.write_text(_BY_URL.sub(f"{_DEFINITIONS.as_uri()}#/$defs/", schema.read_text()))
    return copy
