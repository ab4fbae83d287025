"""The HTTP API: statements, results, the catalog, and the health of the service."""
