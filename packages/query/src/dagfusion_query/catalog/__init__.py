"""The catalog: table names, table versions, and the snapshot a query runs on."""
