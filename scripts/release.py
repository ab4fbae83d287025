"""Build a release: the wheels with their bills of materials and checksums, and the container images.

    uv run --group release python scripts/release.py wheels dist --url https://host.example/owner/project
    uv run python scripts/release.py images --prefix registry.example/dagfusion --push

A bill of materials (CycloneDX, JSON) names what the wheel needs with all of its extras, at the pins of
`constraints.txt`, for the Python that runs this script. Wheels are built from the files of the commit, whatever was
changed since: the same commit and address give the same bytes.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
CHECKSUMS = "SHA256SUMS"
PYTHON_IMAGE = "python:3.13.18-slim"
# The name of each image below the prefix, its Dockerfile, and its build arguments.
IMAGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "query": ("deploy/query.Dockerfile", {}),
    "sail": ("deploy/sail.Dockerfile", {}),
    "dagster": ("deploy/Dockerfile", {}),
    "dagster-ecs": ("deploy/Dockerfile", {"INSTANCE": "deploy/aws/dagster.yaml"}),
    "dagster-k8s": ("deploy/Dockerfile", {"PACKAGES": "dagster-k8s"}),
}


class Wheel(NamedTuple):
    """A wheel of this repository: its file, and what its metadata says."""

    path: Path
    name: str
    version: str
    extras: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "Wheel":
        """Read the metadata of a wheel."""
        with zipfile.ZipFile(path) as archive:
            [entry] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            fields = HeaderParser().parsestr(archive.read(entry).decode())
        return cls(path, fields["Name"], fields["Version"], fields.get_all("Provides-Extra", []))

    @property
    def requirement(self) -> str:
        """The wheel with all of its extras, as a requirement."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras} @ {self.path.resolve().as_uri()}"


def public_address(text: str) -> str:
    """Return the address of the repository without a slash at its end.

    Raises:
        argparse.ArgumentTypeError: It is no address that a link can be made from.
    """
    parts = urlsplit(text)
    address = text.rstrip("/")
    if "@" in parts.netloc:  # is not shown: it may have a password
        raise argparse.ArgumentTypeError("the address has a user, and all who have a wheel could read it")
    is_whole = parts.scheme == "https" and parts.hostname and parts.path.strip("/")
    if not is_whole or parts.query or parts.fragment or address.endswith(".git") or "".join(text.split()) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as https://host.example/owner/project")
    return address


def project_urls(address: str, commit: str) -> dict[str, str]:
    """Return the links of a wheel by their labels: those that package indexes show with a picture of their own."""
    return {
        "Source": address,
        "Documentation": f"{address}/tree/{commit}/docs",
        "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def export(repository: Path, folder: Path) -> None:
    """Write the files of the repository's commit into a folder, without what was changed or added since."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        _run(["git", "archive", f"--output={archive.name}", "HEAD"], repository)
        with tarfile.open(archive.name) as files:
            files.extractall(folder, filter="data")


def add_urls(source: Path, urls: Mapping[str, str]) -> None:
    """Add links to the metadata of each package of exported files."""
    table = "".join(f"{label} = {json.dumps(url)}\n" for label, url in urls.items())
    for project in source.glob("packages/*/pyproject.toml"):
        project.write_text(f"{project.read_text()}\n[project.urls]\n{table}")


def build_wheels(source: Path, folder: Path) -> list[Wheel]:
    """Build the wheel of each package of exported files."""
    _run(["uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(folder.resolve())], source)
    (folder / ".gitignore").unlink(missing_ok=True)  # uv makes one
    return [Wheel.read(path) for path in sorted(folder.glob("*.whl"))]


def bill_of_materials(source: Path, wheel: Wheel, wheels: Sequence[Wheel]) -> str:
    """Return the bill of materials of a wheel: CycloneDX 1.6 in JSON.

    Args:
        source: The files that the wheels were built from.
        wheel: The wheel.
        wheels: All wheels of the release, which may need each other.
    """
    with tempfile.TemporaryDirectory() as folder:
        python, pins = Path(folder, "venv/bin/python"), Path(folder, "pins.txt")
        own = "".join(f"{one.name} @ {one.path.resolve().as_uri()}\n" for one in wheels)
        pins.write_text((source / "constraints.txt").read_text() + own)
        _run(["uv", "venv", "--quiet", "--python", sys.executable, str(python.parents[1])])
        _run(["uv", "pip", "install", "--quiet", f"--python={python}", f"--constraints={pins}", wheel.requirement])
        for local in python.parents[1].rglob("dagfusion*.dist-info/direct_url.json"):
            local.unlink()  # it has a path of this machine
        tool = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--no-validate"]
        project = f"--pyproject={source / 'packages' / wheel.name.removeprefix('dagfusion-') / 'pyproject.toml'}"
        document = json.loads(_run([*tool, "--mc-type=library", project, str(python)]))
        for component in document["components"]:
            if "licenses" not in component and (licence := _licence(python, component["name"])):
                component["licenses"] = [{"license": {"name": licence}}]
    digest = {"alg": "SHA-256", "content": hashlib.sha256(wheel.path.read_bytes()).hexdigest()}
    document["metadata"]["component"] |= {"purl": f"pkg:pypi/{wheel.name}@{wheel.version}", "hashes": [digest]}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def check_bill(text: str) -> None:
    """Refuse a bill of materials that is not valid by the schema of CycloneDX.

    Raises:
        SystemExit: It is not; the message has the first error.
    """
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415  # the group `release`, which images do not need
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SystemExit(f"the bill of materials is not valid: {error}")


def write_wheels(folder: Path, address: str | None) -> None:
    """Write the wheels, `NAME-VERSION.cdx.json` beside each, and `SHA256SUMS`, which `sha256sum --check` reads.

    Args:
        folder: An empty or new folder.
        address: The public address of the repository, or None for wheels without links.

    Raises:
        SystemExit: The folder has files, which the release would contain, too.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} must be empty, because all of it is the release: name another folder, or empty it")
    if _run(["git", "status", "--porcelain"]):
        print("the wheels are those of the last commit: what is not committed is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        export(ROOT, source)
        if address is not None:
            add_urls(source, project_urls(address, _run(["git", "rev-parse", "HEAD"]).strip()))
        wheels = build_wheels(source, folder)
        for wheel in wheels:
            bill = bill_of_materials(source, wheel, wheels)
            check_bill(bill)
            (folder / f"{wheel.name}-{wheel.version}.cdx.json").write_text(bill)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / CHECKSUMS).write_text("".join(sums))


def image_commands(
    prefix: str, revision: str, python_image: str = PYTHON_IMAGE, *, push: bool = False
) -> list[list[str]]:
    """Return the commands that build the images, and push them after all of them are built.

    Args:
        prefix: Of their names, such as `registry.example/dagfusion`.
        revision: The commit, which is a label of each image.
        python_image: Their base.
        push: Whether they are pushed.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = {"version": version, "revision": revision, "licenses": "Apache-2.0"}
    builds, pushes = list[list[str]](), list[list[str]]()
    for name, (dockerfile, own) in IMAGES.items():
        tag = f"{prefix}/{name}:{version}"
        arguments = [f"--build-arg={key}={value}" for key, value in {"PYTHON_IMAGE": python_image, **own}.items()]
        described = [f"--label=org.opencontainers.image.{key}={value}" for key, value in labels.items()]
        builds.append(["docker", "build", f"--file={dockerfile}", f"--tag={tag}", *arguments, *described, "."])
        pushes.append(["docker", "push", tag])
    return [*builds, *pushes] if push else builds


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    wheels = parts.add_parser("wheels", help="wheels, bills of materials and checksums")
    wheels.add_argument("folder", type=Path, help="an empty or new folder")
    links = wheels.add_mutually_exclusive_group(required=True)  # a wheel that was published cannot be changed
    links.add_argument(
        "--url", type=public_address, help="of the repository: the wheels link to its documents, changes and issues"
    )
    links.add_argument("--no-urls", action="store_true", help="the wheels link to nothing")
    images = parts.add_parser("images", help="the container images")
    images.add_argument("--prefix", default="dagfusion", help="of their names, such as registry.example/dagfusion")
    images.add_argument("--python-image", default=PYTHON_IMAGE, help="their base (%(default)s)")
    images.add_argument("--push", action="store_true", help="push them after all of them are built")
    return parser


def main() -> None:
    """Build what the arguments name."""
    given = arguments().parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = _run(["git", "log", "-1", "--format=%ct"]).strip()
    if given.part == "wheels":
        write_wheels(given.folder, given.url)
        return
    revision = _run(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).strip()
    for command in image_commands(given.prefix, revision, given.python_image, push=given.push):
        print(" ".join(command), flush=True)
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - the arguments are ours


def _licence(python: Path, name: str) -> str | None:
    """Return the licence of a package where its metadata has it as text of its own, which the tool leaves out."""
    [packages] = python.parents[1].glob("lib/python*/site-packages")
    [found] = distributions(name=name, path=[str(packages)])
    licence = found.metadata.json.get("license")
    return licence if isinstance(licence, str) else None


def _run(command: Sequence[str], folder: Path = ROOT) -> str:
    """Run a command in a folder, and return what it prints."""
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ours
    return done.stdout


if __name__ == "__main__":
    main()
