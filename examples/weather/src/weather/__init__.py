"""A small Dagster project whose assets are tables."""
