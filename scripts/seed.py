"""Seed demo data: the same as `dagfusion seed`.

uv run scripts/seed.py --days 365 --states 50
"""

import sys

from dagfusion_cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["seed"]
    main()
