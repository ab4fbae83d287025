"""The query service: its doors, its workers, and the catalogs that it follows."""
