"""Tables of the catalog for other engines: Iceberg metadata, Delta logs, and statements on a Spark Connect server."""
