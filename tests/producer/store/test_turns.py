"""Turns over both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.producer.store.turns_conformance import TurnsConformance

if TYPE_CHECKING:
    from pathlib import Path


class TestSQLite(TurnsConformance):
    """The store of one machine."""

    @pytest.fixture
    def where(self, path: Path) -> str:
        """Return a file that is not there yet."""
        return str(path)


class TestPostgreSQL(TurnsConformance):
    """The store of many machines."""

    @pytest.fixture
    def where(self, new_database: str) -> str:
        """Return a new database's URL."""
        return new_database
