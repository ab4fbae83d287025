"""The assets and their resources."""
