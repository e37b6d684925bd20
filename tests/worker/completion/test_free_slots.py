"""Settled answers bring a claim where it can get something."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import AsyncMock, Mock

import pytest

from nightmill_worker.completion.settler import Settler
from nightmill_worker.jobs.in_flight import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable


def settler_of(registry: InFlight) -> Settler:
    """Return a settler whose group has no releases."""
    scripts, releases, other = AsyncMock(), AsyncMock(), Mock()
    nothing: Callable[[], None] = Mock()
    return Settler(scripts, other, registry, other, releases=releases, emit=other, passed=nothing)


@pytest.mark.parametrize(("running", "asks"), [(1, True), (2, False)])
async def test_settled_answers_ask_for_a_claim_only_where_a_slot_is_free(
    running: int,
    asks: bool,  # noqa: FBT001 - a row
) -> None:
    """A claim counts a call's slot as free when the call ends, which is before it is settled."""
    registry = InFlight(2)
    registry.running = running
    await settler_of(registry)._carry([])
    assert registry.room.is_set() == asks
