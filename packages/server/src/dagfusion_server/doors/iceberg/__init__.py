"""The Iceberg REST catalog: the tables that a caller may read, read-only, for engines that speak the protocol."""
