"""What every suite has: the tiers of tests, their order, and the options of the benchmarks."""

pytest_plugins = ["tests.tiers", "tests.workers", "benchmarks.options"]
