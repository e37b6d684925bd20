"""A desk: the scripts on an empty server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from tests.worker.queue.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    """Return the scripts on an empty server."""
    with Redis.from_url(redis_url) as client:
        yield Desk(client)
