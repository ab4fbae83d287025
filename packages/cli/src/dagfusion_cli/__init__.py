"""The `dagfusion` command: queries, the service, `doctor` and `cost`."""
