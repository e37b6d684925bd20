"""Processes of one machine: embedded Valkey, supervisor, worker process, whole runs."""
