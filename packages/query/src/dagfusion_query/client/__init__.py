"""Clients of the query service, and `connect`."""
