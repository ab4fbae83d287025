"""What the pipeline writes and the query side reads: table names, object layout, and event metadata v1."""
