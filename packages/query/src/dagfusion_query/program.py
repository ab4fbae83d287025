"""The program `dagfusion`: runs the package `dagfusion_cli` in this process, or reports that the extra is missing."""

import runpy
import sys
from importlib.util import find_spec

from dagfusion_client.errors import missing_extra

CLI = "dagfusion_cli"  # the package that the extra `cli` installs


def main() -> None:
    """Run the command line, if it is installed."""
    if find_spec(CLI) is None:
        missing = missing_extra("cli", "the command `dagfusion`", CLI)
        sys.exit(f"error: {missing}; for `dagfusion serve`: pip install 'dagfusion-query[server]'")
    runpy.run_module(CLI, run_name="__main__")
