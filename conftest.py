"""What every suite has: the tiers of tests, their samples and order, and the options of the benchmarks."""

pytest_plugins = ["tests.tiers", "tests.sampling", "tests.workers", "tests.databases", "benchmarks.options"]
