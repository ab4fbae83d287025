"""The program `dagfusion`: the command line, or an error that names the extra which it needs."""

import sys

from dagfusion_query.cli.imports import uncollected
from dagfusion_query.errors import MissingExtraError
from dagfusion_query.package_extras import needs


def main() -> None:
    """Run the command line, if what it needs is installed."""
    try:
        with needs("cli", "the command `dagfusion`"), uncollected():
            from dagfusion_query.cli.main import main as run  # noqa: PLC0415  # imports typer
    except MissingExtraError as error:
        serving = "; for `dagfusion serve`: pip install 'dagfusion-query[server]'"
        sys.exit(f"error: {error}{serving}")
    run()
