"""The `dagfusion` command."""
