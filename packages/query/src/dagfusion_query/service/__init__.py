"""The service: runs the queries of the doors on the workers."""
