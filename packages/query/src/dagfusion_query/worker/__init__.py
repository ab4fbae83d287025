"""The processes that run statements, and the pool that the service has of them."""
