"""`python -m dagfusion_query.worker <socket> <service's process id>`."""

import sys

from dagfusion_query.worker.process import main

main(int(sys.argv[1]), int(sys.argv[2]))
