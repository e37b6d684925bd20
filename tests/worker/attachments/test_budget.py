"""The memory that attachments may take."""

from __future__ import annotations

import asyncio

from nightmill_worker.attachments.loader import Budget


async def test_a_budget_serves_in_order_also_after_a_cancellation() -> None:
    """Small requests do not overtake a large one, and a cancelled one blocks none."""
    budget = Budget(10)
    assert await budget.take(8) == 8
    large = asyncio.create_task(budget.take(10))
    small = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not small.done()
    large.cancel()
    assert await small == 1
    budget.give(9)
    assert await budget.take(99) == 10
