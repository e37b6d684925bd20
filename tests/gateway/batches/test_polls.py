"""Polls of one batch share a look, and none sees what was before a change."""

from __future__ import annotations

import asyncio

import pytest

from nightmill_gateway.batches.polls import Polls


async def test_polls_that_come_at_once_share_a_look() -> None:
    """Hundreds of clients may wait for one batch; other batches have their own look."""
    looks: list[str] = []

    async def look(tenant: str, batch: str) -> str:
        looks.append(f"{tenant}/{batch}")
        await asyncio.sleep(0)
        return batch

    polls = Polls(look)
    found = await asyncio.gather(*(polls.get("a", "b") for _ in range(100)))
    assert found == ["b"] * 100
    await polls.get("other", "b")
    assert looks == ["a/b", "other/b"]
    polls.forget("a", "b")
    await polls.get("a", "b")
    assert len(looks) == 3


async def test_a_look_that_fails_fails_for_each() -> None:
    """And is not remembered for longer than one that does not."""

    async def look(tenant: str, batch: str) -> str:
        raise LookupError(tenant, batch)

    polls = Polls(look)
    for _ in range(2):
        with pytest.raises(LookupError):
            await polls.get("a", "b")
