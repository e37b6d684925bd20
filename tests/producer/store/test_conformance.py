"""One suite over both databases: a SQLite file, and a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.producer.store.conformance import Conformance

if TYPE_CHECKING:
    from pathlib import Path


class TestSQLite(Conformance):
    """The store of one machine."""

    @pytest.fixture
    def where(self, path: Path) -> str:
        """Return a file that is not there yet."""
        return str(path)


class TestPostgreSQL(Conformance):
    """The store of many machines."""

    @pytest.fixture
    def where(self, new_database: str) -> str:
        """Return a new database's URL."""
        return new_database
