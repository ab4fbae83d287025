"""`python -m dagfusion_cli`, which the program `dagfusion` runs."""

import gc

from dagfusion_query.fast_start import uncollected

with uncollected():
    from dagfusion_cli.main import main
try:
    main()
finally:
    gc.freeze()  # or Python looks for cycles in all that was imported before it ends, a seventh of a small command
