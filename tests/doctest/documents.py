"""The documents of the repository, the blocks of code in them, and what of these does not run in a test."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "packages/*/README.md", "examples/**/*.md")
FENCE = re.compile(r"^( *)```([a-z]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# `text` is output, a drawing or a signature. `json`, `toml` and `yaml` are data, which other tests read. `properties`
# is the configuration of other engines.
LANGUAGES = {"python", "sh", "sql", "text", "json", "toml", "yaml", "properties"}
RUN = {"python", "sh", "sql"}

# Commands and statements that cannot run where these tests do, as patterns of their beginnings, each with the test that
# runs it or what it would repeat.
NOT_RUN = {
    "-- (Snowflake|ClickHouse|StarRocks), not run": "tests/doctest/test_blocks.py",
    "aws (cloudformation|ecs run-task)": "tests/deploy/test_aws_applied.py",
    "pip install uv && uv run dagfusion demo": "tests/stack/test_demo.py",
    "(UV_NO_EDITABLE=1 )?uv (pip|tool) install": "tests/wheels/test_wheels.py",
    r"export \$\(grep": "tests/stack/test_up.py",
    "dagfusion (up|status|down)": "tests/stack/test_up.py",
    "dagfusion seed": "tests/stack/test_seed.py",
    "dagfusion serve": "tests/doctest/conftest.py",
    "dagfusion doctor": "tests/e2e/test_doctor.py",
    "docker compose": "tests/boundaries/test_compose.py",
    "helm install": "tests/deploy/test_helm.py",
    "INSTALL iceberg": "tests/server/doors/iceberg/test_clients.py",
    r"SELECT count\(\*\) FROM lake": "tests/server/doors/iceberg/test_older_snapshots.py",
    "kubectl --namespace": "tests/deploy/test_sail_manifest.py",
    "sail spark server": "tests/interop/spark/test_sail.py",
    "uv (sync|run --group|run tox)": "tox.ini",
    r"uv run python scripts/pin\.py": "tests/boundaries/test_pins.py",
}


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: What stands behind the fence.
        code: Its lines, without the indentation of the fence.
        line: The number of the line before its first.
    """

    language: str
    code: str
    line: int


def documents() -> list[Path]:
    """Return every document, relative to the root."""
    return sorted({path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)})


def blocks(document: Path) -> Iterator[Block]:
    """Yield the blocks of a document in order."""
    text = (ROOT / document).read_text()
    for found in FENCE.finditer(text):
        code = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(found[2], code, text.count("\n", 0, found.start(3)))


def commands(script: str) -> Iterator[str]:
    """Yield the commands of a shell block, a line each."""
    for line in re.sub(r"\\\n\s*", "", script).splitlines():
        if line.strip() and not line.startswith("#"):
            yield re.sub(r"^uv run (?=dagfusion\b)", "", line)


def why_not(command: str) -> str | None:
    """Return the entry of `NOT_RUN` that a command or a SQL block matches."""
    return next((start for start in NOT_RUN if re.match(rf"{start}\b", command)), None)
