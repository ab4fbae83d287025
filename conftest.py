"""What every suite has: the tiers of tests, and the options of the benchmarks."""

pytest_plugins = ["tests.tiers", "benchmarks.options"]
