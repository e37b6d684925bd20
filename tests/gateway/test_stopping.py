"""A gateway that stops: what a load balancer and its clients see."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from nightmill_gateway import stopping
from nightmill_gateway.stopping import STOPPING
from tests.gateway.door import Door, opened
from tests.gateway.messages.test_messages import PATH, body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig


@asynccontextmanager
async def stopped(rig: Rig, grace_s: float = 2) -> AsyncIterator[tuple[Door, asyncio.Task[None]]]:
    """Yield a gateway that stops once the task is awaited or the block ends."""
    settings = rig.settings.model_copy(update={"grace_s": grace_s})
    async with opened(settings) as door:
        finishing = asyncio.create_task(door.app[STOPPING].finish(grace_s))
        await asyncio.sleep(0)
        yield door, finishing
        await finishing


async def test_a_balancer_learns_that_it_stops_while_requests_are_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The balancer needs some looks before it sends requests elsewhere; none is refused before."""
    monkeypatch.setattr(stopping, "NOTICE_S", 30)
    async with opened(rig.settings) as door:
        assert (await door("GET", "/readyz")).status == 200
        finishing = asyncio.create_task(door.app[STOPPING].finish(2))
        await asyncio.sleep(0)
        looked = await door("GET", "/readyz")
        assert looked.error == (503, "api_error")
        assert "stops" in looked.message
        assert (await door("GET", "/healthz")).status == 200, "a killed process drops requests"
        listed = await door("GET", "/v1/messages/batches")
        assert listed.status == 200
        assert listed.headers["connection"] == "close", "the next request goes elsewhere"
        assert not finishing.done()
        door.app[STOPPING].begin(at_once=True)  # a second signal
        await asyncio.wait_for(finishing, 5)


async def test_without_a_balancer_an_idle_gateway_stops_at_once(rig: Rig) -> None:
    """A person who presses Ctrl-C does not wait."""
    async with stopped(rig, grace_s=60) as (_, finishing):
        await asyncio.wait_for(finishing, 1)


async def test_requests_that_are_open_finish_and_new_ones_are_told(rig: Rig) -> None:
    """What was begun ends; what comes is sent again, to another gateway."""
    rig.sim.configure(latency_s=0.5)
    async with rig.working(), opened(rig.settings) as door:
        asking = asyncio.create_task(door("POST", PATH, json=body()))
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        finishing = asyncio.create_task(door.app[STOPPING].finish(10))
        await asyncio.sleep(0)
        refused = await door("POST", PATH, json=body("new"))
        assert refused.error == (529, "overloaded_error")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert (await door("GET", "/readyz")).status == 503
        assert (await door("GET", "/healthz")).status == 200
        assert (await asking).status == 200
        await asyncio.wait_for(finishing, 5)
    assert rig.calls() == 1
