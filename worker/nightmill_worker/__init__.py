"""nightmill_worker: what runs the jobs a nightmill client enqueued."""
