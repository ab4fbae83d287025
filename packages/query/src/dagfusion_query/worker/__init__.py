"""Both ends of the socket between the service and the worker processes that run its statements.

Service: `pool`, `lease`, `handle`, `lifecycle`. Worker process: `process`, `statements`, `worker_engine`,
`result_chunks`. Both: `frames`, `limits`, `redact`.
"""
