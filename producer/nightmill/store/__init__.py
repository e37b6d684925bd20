"""The results store: one row per job, in SQLite or PostgreSQL; needs the `store` extra."""

from nightmill.store.batches import StoredBatch
from nightmill.store.connection import Connection, Database
from nightmill.store.spending import Spent
from nightmill.store.statements import Stored
from nightmill.store.store import ResultStore

__all__ = ["Connection", "Database", "ResultStore", "Spent", "Stored", "StoredBatch"]
