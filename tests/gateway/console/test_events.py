"""The stream of events: what tells tabs that something changed, and what it costs."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from nightmill_gateway.console.live import events, topics
from tests.gateway.console.browser import browsing, logged_in
from tests.gateway.door import opened
from tests.rig import Rig, hello, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.console.browser import Browser
    from tests.gateway.door import Door


@asynccontextmanager
async def listening(browser: Browser, of: str) -> AsyncIterator[aiohttp.StreamReader]:
    """Open a stream; yield what it sends after its first line."""
    async with browser.session.get(f"{browser.url}/events", params={"of": of}) as got:
        assert got.status == 200
        assert got.content_type == "text/event-stream"
        assert await got.content.readuntil(b"\n\n") == events.RETRY
        yield got.content


async def changed(stream: aiohttp.StreamReader) -> None:
    """Wait for an event."""
    while await stream.readuntil(b"\n\n") != events.CHANGED:
        pass


async def watched(door: Door) -> None:
    """Wait until the poller has looked twice more: it knows all topics then."""
    poller = door.app[events.EVENTS]
    before = poller.looks
    await until(lambda: poller.looks >= before + 2)


async def test_a_change_is_told_within_two_seconds(door: Door, rig: Rig) -> None:
    """A page that lies for longer is not live."""
    async with logged_in(door) as browser:
        for of in ("overview", "batches", "batch:b"):
            async with listening(browser, of) as stream:
                await watched(door)
                at = time.monotonic()
                await rig.producer.enqueue(hello(of), batch="b", custom_id=of.replace(":", ""))
                await changed(stream)
                assert time.monotonic() - at < 2


async def test_a_job_that_ends_is_told(door: Door, rig: Rig) -> None:
    """The page of a job needs no reload."""
    await rig.producer.enqueue(hello(), batch="b", custom_id="1")
    async with logged_in(door) as browser, listening(browser, "job:b:1") as stream:
        await watched(door)
        await rig.work_off()
        await changed(stream)


async def test_a_tenant_hears_nothing_of_another(
    door: Door, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a batch of another tenant moves is nobody else's business."""
    monkeypatch.setattr(topics, "CHARTS_S", 1e9)
    async with (
        logged_in(door, tenant="acme") as browser,
        listening(browser, "overview") as stream,
    ):
        await watched(door)
        await rig.producer.enqueue(hello(), batch="other/b", custom_id="1")
        await watched(door)
        heard = asyncio.create_task(changed(stream))
        await watched(door)
        assert not heard.done()
        await rig.producer.enqueue(hello(), batch="acme/b", custom_id="1")
        await heard
        for of in ("lanes", "workers"):
            assert (await browser.get(f"/events?of={of}")).status == 403
        for of in ("batch:other/b", "job:other/b:1", "job:single", "nonsense"):
            assert (await browser.get(f"/events?of={of}")).status == 404, of


async def test_without_a_session_there_is_no_stream(door: Door) -> None:
    """Not even that something changed."""
    async with browsing(door.url) as browser:
        assert (await browser.get("/events?of=overview")).where.startswith("/login")


async def test_many_tabs_cost_one_look(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall of screens must not load Redis."""
    monkeypatch.setattr(events, "MOST", 20)
    poller = door.app[events.EVENTS]
    async with logged_in(door) as browser:
        tabs = [await browser.session.get(f"{browser.url}/events?of=overview") for _ in range(20)]
        await watched(door)
        assert poller.tabs == 20
        assert (await browser.get("/events?of=overview")).status == 503
        looks, at = poller.looks, time.monotonic()
        await watched(door)
        assert poller.looks - looks <= (time.monotonic() - at) / events.LOOK_S + 1
        for tab in tabs:
            tab.close()
        await until(lambda: not poller.tabs)
        looks = poller.looks
        await asyncio.sleep(0)
        assert poller.looks - looks <= 1


async def test_a_gateway_that_stops_ends_its_streams(rig: Rig) -> None:
    """It waits for its requests, and a stream has no end of its own."""
    async with opened(rig.settings) as door, logged_in(door) as browser:
        tab = await browser.session.get(f"{browser.url}/events?of=overview")
        await watched(door)
        at = time.monotonic()
    assert time.monotonic() - at < 1.5
    tab.close()
