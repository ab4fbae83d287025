"""The entry point of the program `dagfusion`, which reports that the extra `cli` is missing."""

import gc
import sys

from dagfusion_query.errors import MissingExtraError, needs
from dagfusion_query.fast_start import uncollected


def main() -> None:
    """Run the command line, if what it needs is installed."""
    try:
        with needs("cli", "the command `dagfusion`"), uncollected():
            from dagfusion_query.cli.main import main as run  # noqa: PLC0415  # imports typer
    except MissingExtraError as error:
        serving = "; for `dagfusion serve`: pip install 'dagfusion-query[server]'"
        sys.exit(f"error: {error}{serving}")
    try:
        run()
    finally:
        gc.freeze()  # or Python looks for cycles in all that was imported before it ends, a seventh of a small command
