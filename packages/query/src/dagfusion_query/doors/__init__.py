"""The doors: how callers reach the service."""
