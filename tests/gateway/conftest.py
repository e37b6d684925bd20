"""A rig without workers, and a gateway over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill_gateway import stopping
from nightmill_gateway.answers import log
from tests.gateway.door import Door, opened
from tests.rig import Rig, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a log of its own: a logger keeps the stderr that it was made with."""
    monkeypatch.setattr(log, "_LOG", log._Log())


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


@pytest.fixture
async def door(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """Return a gateway over the rig's Redis and store, with a key; it stops soon."""
    monkeypatch.setattr(stopping, "NOTICE_S", 0.1)
    async with opened(rig.settings) as door:
        yield door
