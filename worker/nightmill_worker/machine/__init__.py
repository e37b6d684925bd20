"""Processes of one machine: the embedded Valkey, the supervisor, worker processes, whole runs."""
