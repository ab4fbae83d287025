"""The scan: prune a table's files by the filters of a query, then splice them into DataFusion's plan."""
