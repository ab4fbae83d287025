"""What docker-compose.yml promises: users, read-only file systems, health checks, ordered start, pinned images."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.composed import IMAGES

IMAGE = re.compile(r"\$\{DAGFUSION_(?:POSTGRES|LOCALSTACK)_IMAGE:-(?P<default>[^}]+)\}")
# A patch release: PostgreSQL's have two numbers.
PINNED = re.compile(r"postgres:\d+\.\d+|python:\d+\.\d+\.\d+-slim|localstack/localstack:\d+\.\d+\.\d+")
ROOT_BY_NEED = {"s3"}  # LocalStack's image


@pytest.fixture(scope="module")
def document(root: Path) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return parsed


@pytest.fixture(scope="module")
def services(document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = document["services"]
    return found


def dockerfile(root: Path, service: Mapping[str, Any]) -> str:
    path: Path = root / service["build"]["dockerfile"]
    return path.read_text()


def test_every_service_has_a_health_check(services: Mapping[str, Mapping[str, Any]]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == []


def test_a_service_starts_when_what_it_needs_is_healthy(services: Mapping[str, Mapping[str, Any]]) -> None:
    needs = {name: set(service.get("depends_on", {})) for name, service in services.items()}
    conditions = {one["condition"] for s in services.values() for one in s.get("depends_on", {}).values()}
    assert conditions == {"service_healthy"}
    assert needs["code-location"] == {"postgres", "s3"}
    assert needs["webserver"] == needs["daemon"] == {"code-location"}
    assert needs["query"] == {"webserver"}
    assert needs["sail"] == {"query"}


def test_no_service_leaves_a_core_file(services: Mapping[str, Mapping[str, Any]]) -> None:
    limits = {name: service.get("ulimits", {}).get("core") for name, service in services.items() if name != "s3"}
    assert limits == dict.fromkeys(limits, 1)


def test_services_run_as_ordinary_users(root: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    for name, service in services.items():
        if "build" in service:
            users = re.findall(r"^USER (.*)$", dockerfile(root, service), re.MULTILINE)
            assert int(users[-1]) > 0, name  # a number, which Kubernetes' runAsNonRoot needs
        elif name not in ROOT_BY_NEED:
            assert service["user"] not in ("root", "0"), name


def test_file_systems_are_read_only_and_rights_dropped(services: Mapping[str, Mapping[str, Any]]) -> None:
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name not in ROOT_BY_NEED:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged", False), name


def test_volumes_are_named(root: Path, document: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    files = {volume for volume in used if volume.startswith("./")}
    assert used - files == set(document["volumes"])
    assert [file for file in files if not (root / file).is_file()] == []


def test_images_are_pinned_and_can_be_replaced(root: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    for name, service in services.items():
        if "build" in service:
            prefix, _, image = service["image"].rpartition("/")
            assert (prefix, image in {*IMAGES, "sail"}) == ("${DAGFUSION_IMAGE_PREFIX:-dagfusion}", True), name
            default = service["build"]["args"]["PYTHON_IMAGE"]
            assert default.startswith("${DAGFUSION_PYTHON_IMAGE:-"), name
            base = default.removeprefix("${DAGFUSION_PYTHON_IMAGE:-").removesuffix("}")
            assert f"ARG PYTHON_IMAGE={base}\n" in dockerfile(root, service)
            assert set(re.findall(r"^FROM (\S+)", dockerfile(root, service), re.MULTILINE)) == {"${PYTHON_IMAGE}"}
        else:
            match = IMAGE.fullmatch(service["image"])
            assert match is not None, name
            base = match["default"]
        assert PINNED.fullmatch(base), base


def test_ports_are_published_on_loopback_only(services: Mapping[str, Mapping[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:${DAGFUSION_") for port in ports)


def test_the_image_of_the_service_has_only_its_packages(root: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    text = dockerfile(root, services["query"])
    assert set(re.findall(r"packages/(\w+)", text)) == {*("client", "contract", "query", "interop", "server", "cli")}
    assert "dagster" not in text.lower().replace("without dagster", "")


def test_sail_runs_with_its_profile_only_and_is_not_published(services: Mapping[str, Mapping[str, Any]]) -> None:
    assert {name: service["profiles"] for name, service in services.items() if "profiles" in service} == {
        "sail": ["distributed"]
    }
    assert "ports" not in services["sail"]


def test_the_service_and_sail_find_each_other(services: Mapping[str, Mapping[str, Any]]) -> None:
    query, sail = services["query"]["environment"], services["sail"]["environment"]
    port = sail_argument(services["sail"]["command"], "--port")
    assert query["DAGFUSION_SPARK_REMOTE"] == f"sc://sail:{port}"
    assert port in services["sail"]["healthcheck"]["test"][-1]
    assert sail["CATALOG_URL"] == "http://query:8080/iceberg"
    assert sail["CATALOG_TOKEN_FILE"] == query["SAIL_TOKEN_FILE"]
    folder = Path(query["SAIL_TOKEN_FILE"]).parent
    assert f"sail-token:{folder}" in services["query"]["volumes"]
    assert f"sail-token:{folder}:ro" in services["sail"]["volumes"]
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert sail[name] == query[name]


def sail_argument(command: Sequence[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_sail_and_the_service_have_the_same_user(root: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    """Only this user reads the token."""
    users = {
        re.findall(r"^USER (.*)$", dockerfile(root, services[name]), re.MULTILINE)[-1] for name in ("query", "sail")
    }
    assert len(users) == 1


@pytest.mark.containers
@pytest.mark.usefixtures("processes")
def test_compose_accepts_the_file(root: Path) -> None:
    compose = ["docker", "compose", "--project-directory", str(root)]
    if shutil.which("docker") is None or subprocess.run([*compose, "version"], check=False).returncode != 0:  # noqa: S603
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail("docker has no Compose, and DAGFUSION_REQUIRE_CONTAINERS asks for it")
        pytest.skip("docker has no Compose")
    config = ["--profile", "distributed", "config", "--quiet"]
    done = subprocess.run([*compose, *config], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("own", [{}, {"TOKENS_JSON": '{"version": 1, "tokens": []}'}])
def test_the_entry_writes_what_variables_hold(root: Path, tmp_path: Path, own: Mapping[str, str]) -> None:
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"), **own}
    seen = run_entry(root / "deploy/query-entry.sh", variables)
    assert "TOKENS_JSON" not in seen
    assert ("DAGFUSION_TOKENS" in seen) is bool(own)
    assert (tmp_path / "tmp").is_dir()
    if own:
        written = Path(seen["DAGFUSION_TOKENS"])
        assert written.read_text() == own["TOKENS_JSON"]
        assert written.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("processes")
def test_the_entry_makes_a_token_once(root: Path, tmp_path: Path) -> None:
    file, program = tmp_path / "token", tmp_path / "dagfusion"
    program.write_text('#!/bin/sh\necho "$@" >>"$HOME/calls"\n[ "$2" = create ] && echo "dft_$$"\n')
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "t")}
    for _ in range(2):
        run_entry(root / "deploy/query-entry.sh", {**variables, "SAIL_TOKEN_FILE": str(file)})
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["token revoke sail", "token create sail --grant * --expires never"]
    assert re.fullmatch(r"dft_\d+\n", file.read_text())
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("by", ["CATALOG_TOKEN", "CATALOG_TOKEN_FILE"])
def test_the_entry_of_sail_names_the_catalog(root: Path, tmp_path: Path, by: str) -> None:
    (tmp_path / "token").write_text("dft_1\n")
    token = {"CATALOG_TOKEN": "dft_1", "CATALOG_TOKEN_FILE": str(tmp_path / "token")}[by]
    seen = run_entry(
        root / "deploy/sail-entry.sh", {"PATH": "/usr/bin:/bin", "CATALOG_URL": "http://q/iceberg", by: token}
    )
    [catalog] = tomllib.loads(f"list = {seen['SAIL_CATALOG__LIST']}")["list"]
    assert catalog == {
        "type": "iceberg-rest",
        "name": "lake",
        "uri": "http://q/iceberg",
        "bearer_access_token": "dft_1",
    }
    assert "CATALOG_TOKEN" not in seen


@pytest.mark.usefixtures("processes")
def test_the_entry_of_sail_fails_without_a_token(root: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [root / "deploy/sail-entry.sh", "env"],
        env={"PATH": "/usr/bin:/bin", "CATALOG_URL": "http://q/iceberg", "CATALOG_TOKEN_FILE": "/nowhere/token"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode != 0, done.stdout) == (True, b"")


def run_entry(entry: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Run an entry script; return the variables that its command gets."""
    done = subprocess.run([entry, "env"], env=variables, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.usefixtures("processes")
def test_the_entry_makes_a_certificate_when_told(root: Path, tmp_path: Path) -> None:
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "t"), "SELF_SIGNED_TLS": "1"}
    seen = run_entry(root / "deploy/query-entry.sh", variables)
    assert "BEGIN CERTIFICATE" in Path(seen["DAGFUSION_TLS_CERTIFICATE"]).read_text()
    key = Path(seen["DAGFUSION_TLS_KEY"])
    assert "PRIVATE KEY" in key.read_text()
    assert key.stat().st_mode & 0o077 == 0
