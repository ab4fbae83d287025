"""Clients of the query service, and the one way in to all that can be asked."""
