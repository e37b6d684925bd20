"""The two databases of a suite: subclass it with OnSQLite and with OnPostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class OnSQLite:
    """The store of one machine."""

    @pytest.fixture
    def where(self, path: Path) -> str:
        """Return a file that is not there yet."""
        return str(path)


class OnPostgreSQL:
    """The store of many machines."""

    @pytest.fixture
    def where(self, new_database: str) -> str:
        """Return a new database's URL."""
        return new_database
