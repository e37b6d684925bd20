"""One suite over both databases: a SQLite file, and a real PostgreSQL."""

from __future__ import annotations

from tests.producer.store.conformance import Conformance
from tests.producer.store.databases import OnPostgreSQL, OnSQLite


class TestSQLite(OnSQLite, Conformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, Conformance):
    """The store of many machines."""
