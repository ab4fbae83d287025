"""Assets that are defined by SQL over other assets, which the query engine runs. They need the extra `sql`."""
