"""A store in a file of its own, for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store's file is to be; neither it nor its folder is there."""
    return tmp_path / "state" / "results.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[ResultStore]:
    """Open a new store."""
    async with ResultStore.open(path) as opened:
        yield opened
