"""Pin every version: compile `constraints.txt`, and copy it to where `uv run` reads pins, the root `pyproject.toml`.

    python scripts/pin.py              # pins what is new, keeps what is pinned
    python scripts/pin.py --upgrade    # the newest versions that fit

A lock file would name the package registry it was resolved against, so none is committed; uv honours constraints only
from the workspace root's `[tool.uv]` table, and that table cannot refer to a file.
"""

import argparse
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# Every version that the workspace runs on, Python 3.11 to 3.13: scripts/pin.py writes it, also to pyproject.toml.
# With pip: pip install -c constraints.txt ./packages/contract ./packages/client ./packages/query
"""


def compile_pins(
    output: Path, sources: Sequence[Path], requirements: Sequence[str], options: Sequence[str]
) -> list[str]:
    """Resolve sources and requirements for all supported Pythons, keeping what `output` pins; return one pin a line."""
    flags = (
        "--universal",
        "--python-version=3.11",
        "--no-annotate",
        "--no-header",
        "--quiet",
        f"--output-file={output}",
    )
    command = ["uv", "pip", "compile", *flags, *options, *map(str, sources), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True)  # noqa: S603 - the arguments are ours
    return output.read_text().splitlines()


def with_list(pyproject: str, name: str, values: Sequence[str]) -> str:
    """Return the text of a pyproject.toml whose list `name` holds the values."""
    lines = "".join(f'    "{value}",\n' for value in values)
    text, found = re.subn(rf"(?ms)^{name} = \[.*?\]$", f"{name} = [\n{lines}]" if values else f"{name} = []", pyproject)
    if found != 1:
        raise SystemExit(
            f"pyproject.toml must hold the list {name!r} once, found {found}: add `{name} = []` to [tool.uv]"
        )
    return text


def main() -> None:
    """Write constraints.txt and the lists of the root pyproject.toml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = ["--upgrade"] if parser.parse_args().upgrade else []

    text = (ROOT / "pyproject.toml").read_text()
    members = sorted(path.relative_to(ROOT) for path in ROOT.glob("packages/*/pyproject.toml"))
    tables = {member: tomllib.loads((ROOT / member).read_text()) for member in members}
    build = sorted({requirement for table in tables.values() for requirement in table["build-system"]["requires"]})
    groups = [f"--group={name}" for name in tomllib.loads(text)["dependency-groups"]]
    own = [f"--no-emit-package={table['project']['name']}" for table in tables.values()]

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)  # without the old pins, which would bind the new ones
        for member in members:
            (copy / member).parent.mkdir(parents=True)
            (copy / member).write_text((ROOT / member).read_text())
        unbound = with_list(with_list(text, "constraint-dependencies", []), "build-constraint-dependencies", [])
        (copy / "pyproject.toml").write_text(unbound)
        kept = copy / "constraints.txt"
        kept.write_text(CONSTRAINTS.read_text() if CONSTRAINTS.exists() else "")
        sources = [copy / "pyproject.toml", *(copy / member for member in members)]
        project = f"--project={copy}"
        pins = compile_pins(kept, sources, build, ["--all-extras", project, *groups, *own, *upgrade])
        build_pins = compile_pins(copy / "build.txt", [], build, [project, f"--constraints={kept}"])

    CONSTRAINTS.write_text(HEADER + "".join(f"{pin}\n" for pin in pins))
    text = with_list(text, "constraint-dependencies", pins)
    (ROOT / "pyproject.toml").write_text(with_list(text, "build-constraint-dependencies", build_pins))
    print(f"{len(pins)} pins, {len(build_pins)} of them to build the packages")


if __name__ == "__main__":
    main()
