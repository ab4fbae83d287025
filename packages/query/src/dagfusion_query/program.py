"""The program `dagfusion`: it runs `python -m dagfusion_cli`, or reports that the extra `cli` is missing."""

import runpy
import sys
from importlib.util import find_spec

from dagfusion_client.errors import missing_extra

COMMANDS = "dagfusion_cli"  # of the package above this one, which the extra installs


def main() -> None:
    """Run the command line, if it is installed."""
    if find_spec(COMMANDS) is None:
        missing = missing_extra("cli", "the command `dagfusion`", COMMANDS)
        sys.exit(f"error: {missing}; for `dagfusion serve`: pip install 'dagfusion-query[server]'")
    runpy.run_module(COMMANDS, run_name="__main__")
