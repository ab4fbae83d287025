"""What a release has beside its wheels."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from scripts.release import Wheel, bill_of_materials
from tests.requirements import closure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(wheels: Mapping[str, Path]) -> Wheel:
    """With one of its extras: a release takes all of them, which would be many files to install."""
    read = Wheel.read(wheels["dagfusion_query"])
    assert {"aws", "cli", "flight", "otel", "pandas", "polars", "server", "spark"} == {*read.extras}
    return read._replace(extras=["otel"])


@pytest.fixture(scope="module")
def bill(wheel: Wheel, wheels: Mapping[str, Path]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(bill_of_materials(wheel, [Wheel.read(path) for path in wheels.values()]))
    return found


def test_a_bill_names_all_that_a_wheel_needs_at_its_pins(bill: Mapping[str, Any], wheel: Wheel) -> None:
    named: dict[str, str] = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    named[canonicalize_name(wheel.name)] = wheel.version  # the subject of the bill, and no component
    assert named == closure(wheel.name, wheel.extras)
    assert "opentelemetry-sdk" in named
    assert [one["name"] for one in bill["components"] if not one.get("licenses")] == []


def test_a_bill_is_that_of_the_wheel(bill: Mapping[str, Any], wheel: Wheel, wheels: Mapping[str, Path]) -> None:
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["purl"]) == (wheel.name, f"pkg:pypi/{wheel.name}@{wheel.version}")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.path.read_bytes()).hexdigest()}]
    [own] = (needs["dependsOn"] for needs in bill["dependencies"] if needs["ref"] == subject["bom-ref"])
    assert {"datafusion==55.0.0", f"dagfusion-contract=={wheel.version}"} <= set(own)
    assert str(wheels["dagfusion_query"].parent) not in json.dumps(bill)
