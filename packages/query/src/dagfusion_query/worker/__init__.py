"""The worker processes that run the service's statements; the service's end of their sockets is in `service/`.

Worker process: `statements`, `worker_engine`, `service_socket`.
Both processes: `messages`, `limits`, `redact`.
"""
