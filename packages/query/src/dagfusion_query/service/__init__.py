"""The service: every door asks it, and it asks the workers."""
