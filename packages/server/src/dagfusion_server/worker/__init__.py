"""The worker processes that run the service's statements; the service's end of their sockets is in `service/`.

Worker process: `statements`, `result_chunks`, `spark_statements`, `worker_engine`, and its start in `__main__`.
Both processes: `messages`, `limits`.
"""
