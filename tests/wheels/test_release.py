"""What a release has beside its wheels."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from scripts.release import Wheel, add_urls, arguments, bill_of_materials, export
from tests.requirements import closure
from tests.wheels.conftest import URLS, Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(wheels: Mapping[str, Path]) -> Wheel:
    """With one of its extras: a release takes all of them, which would be many files to install."""
    read = Wheel.read(wheels["dagfusion_query"])
    assert {"aws", "cli", "flight", "otel", "pandas", "polars", "server", "spark"} == {*read.extras}
    return read._replace(extras=["otel"])


@pytest.fixture(scope="module")
def bill(release_source: Path, wheel: Wheel, wheels: Mapping[str, Path]) -> Mapping[str, Any]:
    built = [Wheel.read(path) for path in wheels.values()]
    found: Mapping[str, Any] = json.loads(bill_of_materials(release_source, wheel, built))
    return found


def test_a_bill_names_all_that_a_wheel_needs_at_its_pins(bill: Mapping[str, Any], wheel: Wheel) -> None:
    named: dict[str, str] = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    named[canonicalize_name(wheel.name)] = wheel.version  # the subject of the bill, and no component
    assert named == closure(wheel.name, wheel.extras)
    assert "opentelemetry-sdk" in named
    assert [one["name"] for one in bill["components"] if not one.get("licenses")] == []


def test_a_bill_is_that_of_the_wheel(
    bill: Mapping[str, Any], wheel: Wheel, wheels: Mapping[str, Path], release_source: Path
) -> None:
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["purl"]) == (wheel.name, f"pkg:pypi/{wheel.name}@{wheel.version}")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.path.read_bytes()).hexdigest()}]
    [own] = (needs["dependsOn"] for needs in bill["dependencies"] if needs["ref"] == subject["bom-ref"])
    assert {"datafusion==55.0.0", f"dagfusion-contract=={wheel.version}"} <= set(own)
    assert {reference["url"] for reference in subject["externalReferences"]} == {*URLS.values()}
    assert str(wheels["dagfusion_query"].parent) not in json.dumps(bill)
    assert str(release_source) not in json.dumps(bill)


def test_a_release_has_what_was_committed(run: Run, tmp_path: Path) -> None:
    repository, exported = tmp_path / "repository", tmp_path / "exported"
    (repository / "packages/one").mkdir(parents=True)
    project = repository / "packages/one/pyproject.toml"
    project.write_text("[project]\nname = 'one'\n")
    run(["git", "init", "--quiet"], repository)
    run(["git", "add", "."], repository)
    run(["git", "-c", "user.name=a", "-c", "user.email=a@host.example", "commit", "--quiet", "-m", "1"], repository)
    project.write_text("changed")
    (project.parent / "added.py").touch()
    export(repository, exported)
    add_urls(exported, URLS)
    assert [path.relative_to(exported) for path in exported.rglob("*") if path.is_file()] == [
        Path("packages/one/pyproject.toml")
    ]
    written = tomllib.loads((exported / "packages/one/pyproject.toml").read_text())
    assert written == {"project": {"name": "one", "urls": URLS}}


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--url", "http://host.example/owner/project"],
        ["--url", "host.example/owner/project"],
        ["--url", "https://host.example/"],
        ["--url", "https://ann:secret@host.example/owner/project"],
        ["--url", "https://host.example/owner/project.git"],
        ["--url", "https://host.example/owner/my project"],
        ["--url", "https://host.example/owner/project#readme"],
        ["--url", "https://host.example/owner/project", "--no-urls"],
    ],
)
def test_wheels_without_links_are_a_decision(given: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(["wheels", "dist", *given])
    error = capsys.readouterr().err
    assert "--url" in error
    assert "secret" not in error


def test_the_address_may_end_with_a_slash() -> None:
    given = arguments().parse_args(["wheels", "dist", "--url", "https://host.example/owner/project/"])
    assert given.url == "https://host.example/owner/project"
    assert arguments().parse_args(["wheels", "dist", "--no-urls"]).url is None
