"""Worker process: its entry point.

`python -m dagfusion_query.worker <socket> <file of the phase> <service's process id>`
"""

import sys

from dagfusion_query.worker.process import main

main(*map(int, sys.argv[1:]))
