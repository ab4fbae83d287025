"""`python -m dagfusion_cli`, which the program `dagfusion` runs, too."""

import gc

from dagfusion_query.fast_start import uncollected

with uncollected():
    from dagfusion_cli.main import main
try:
    main()
finally:
    gc.freeze()  # else the last collection visits all that was imported, which takes a seventh of a small command
