"""INTERACTIVE_SHARE with a worker: batches leave slots to the next client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.gateway.messages.test_messages import PATH, body
from tests.rig import hello, until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

SLOTS, KEPT = 10, 2


async def test_a_batch_of_long_calls_lets_clients_in(rig: Rig, door: Door) -> None:
    """All slots of the worker would be taken for a minute otherwise."""
    batch = rig.producer.batch("night")

    async def running() -> int:
        return (await batch.counts()).in_flight

    async def full() -> bool:  # and the endpoint has them: each is as long as it says then
        return await running() == rig.calls() - 1 == SLOTS - KEPT

    async with rig.working(max_in_flight=SLOTS):
        assert (await door("POST", PATH, json=body())).status == 200
        rig.sim.configure(latency_s=60)
        await rig.producer.enqueue_many([hello() for _ in range(30)], batch="night")
        await until(full)
        rig.sim.configure(latency_s=0.01)
        assert (await door("POST", PATH, json=body("next"))).status == 200
        assert await running() == SLOTS - KEPT, "a slot that a client has left is kept again"
        burst = [door("POST", PATH, json=body(str(n))) for n in range(40)]
        assert {answer.status for answer in await asyncio.gather(*burst)} == {200}
        assert await running() == SLOTS - KEPT, "more than their share of the calls by now"
        assert (await door("POST", PATH, json=body("late"))).status == 200
