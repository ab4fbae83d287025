"""HTTP: statements, their results, the catalog, and how the service is."""
