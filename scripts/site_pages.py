"""A hook of mkdocs: pages of the repository that are outside of `docs/`, and the links to them.

The pages are added to the site under `project/`. Links are written for the repository, such as `../../CONTRIBUTING.md`;
in the site they lead to `project/`, and from there back to the pages of `docs/`.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REPORT = ROOT / "benchmarks" / "report"
ADDED = [
    *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")),
    ROOT / "deploy" / "engines.md",
    ROOT / "examples" / "README.md",
    *sorted(path for path in REPORT.iterdir() if path.suffix in {".md", ".png"}),
]
LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)")
# What a browser loads by itself; links that a reader follows are not.
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"' >]*"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload))[^>]*\bhref=[\"']?(?:https?:)?//[^\"' >]*"
    r"|<\w+ class=[\"']?mermaid\b"  # the theme would load mermaid from another host
    r"|url\([\"']?(?:https?:)?//[^)]*|@import\s+[\"'](?:https?:)?//[^\"']*"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for path in ADDED:
        files.append(File.generated(config, site_name(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Lead links from `docs/` to the added pages, and back."""
    source, here = Path(page.file.abs_src_path), PurePosixPath(page.file.src_uri).parent

    def moved(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / found[1]))
        return os.path.relpath(site_name(target), here) if target in ADDED or source in ADDED else found[1]

    return LINK.sub(moved, markdown)


def site_name(path: Path) -> str:
    """Return where a file of the repository is in the site."""
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else f"project/{path.relative_to(ROOT)}"


def on_post_build(config: Any) -> None:
    """Fail if a page loads a script, a style or a font from another host."""
    pages = [path for path in Path(config.site_dir).rglob("*") if path.suffix in {".html", ".css"}]
    foreign = [f"{path.name}: {found[0]}" for path in pages if (found := FOREIGN.search(path.read_text("utf-8")))]
    if foreign:
        raise PluginError(f"pages load from other hosts: {', '.join(foreign)}")
