"""The service: runs the queries of the doors on worker processes, which it starts, watches and replaces."""
