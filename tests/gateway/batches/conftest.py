"""The looks at batches come often: a test would wait for them as long as a service does."""

from __future__ import annotations

import pytest

from nightmill.message_batches import keeper
from nightmill_gateway.batches import looking
from nightmill_worker.fleet import message_batches

OFTEN_S = 0.1


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits of gateways and workers between two looks."""
    monkeypatch.setattr(looking, "LOOK_S", OFTEN_S)
    monkeypatch.setattr(keeper, "BUSY_S", OFTEN_S)
    monkeypatch.setattr(message_batches, "LOOK_S", OFTEN_S)
    monkeypatch.setattr(message_batches, "IDLE_S", 2 * OFTEN_S)
