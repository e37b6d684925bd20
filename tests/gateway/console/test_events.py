"""The stream of events: what tells tabs that something changed, and what it costs."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.queue import keys
from nightmill_gateway import loops
from nightmill_gateway.console import looks
from nightmill_gateway.console.live import events, snapshot, topics
from tests.gateway.console.browser import browsing, logged_in
from tests.gateway.door import opened
from tests.rig import Rig, hello, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.gateway.console.browser import Browser
    from tests.gateway.door import Door


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than a gateway does: for tests that are not about time."""
    monkeypatch.setattr(events, "LOOK_S", 0.05)
    monkeypatch.setattr(snapshot, "FRESH_S", 0.02)
    monkeypatch.setattr(looks, "FRESH_S", 0.02)


@asynccontextmanager
async def opening(browser: Browser, of: str) -> AsyncIterator[aiohttp.StreamReader]:
    """Open a stream; yield what it sends after its first line."""
    async with browser.session.get(f"{browser.url}/events", params={"of": of}) as got:
        assert got.status == 200
        assert got.content_type == "text/event-stream"
        assert await got.content.readuntil(b"\n\n") == events.RETRY
        yield got.content


@asynccontextmanager
async def listening(browser: Browser, of: str) -> AsyncIterator[aiohttp.StreamReader]:
    """Open a stream; yield what it sends after the event that each new stream gets."""
    async with opening(browser, of) as stream:
        await changed(stream)
        yield stream


async def changed(stream: aiohttp.StreamReader) -> None:
    """Wait for an event."""
    async with asyncio.timeout(10):
        while await stream.readuntil(b"\n\n") != events.CHANGED:
            pass


async def looked(door: Door) -> None:
    """Wait until the poller has looked at everything once more, from the beginning."""
    poller = door.app[events.EVENTS]
    before = poller.looks
    await until(lambda: poller.looks >= before + 2)


async def test_a_change_is_told_within_two_seconds(door: Door, rig: Rig) -> None:
    """A page that lies for longer is not live."""
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(logged_in(door))
        topics_of = ("overview", "batches", "batch:b", "job:b:1")
        streams = [await stack.enter_async_context(opening(browser, of)) for of in topics_of]
        for stream in streams:
            await changed(stream)
        at = time.monotonic()
        await rig.producer.enqueue(hello(), batch="b", custom_id="1")
        for stream in streams:
            await changed(stream)
        assert time.monotonic() - at < 3  # 2 s, and what a busy machine needs


@pytest.mark.usefixtures("quick")
async def test_no_change_of_a_job_is_missed(door: Door, rig: Rig) -> None:
    """Neither one between the page and the first look, nor runs that begin and end between looks.

    A job's page that stays "running" for ever was seen once.
    """
    await rig.producer.enqueue(hello(), batch="b", custom_id="1")
    store, poller = door.services.store, door.app[events.EVENTS]
    async with logged_in(door) as browser:
        assert "queued" in (await browser.get("/jobs/one?id=b:1")).text
        async with opening(browser, "job:b:1") as stream:
            await rig.work_off()  # nobody knows whether the first look was before it or after it
            await until(lambda: poller.looks >= 2)
            await changed(stream)
            assert "succeeded" in (await browser.get("/jobs/one?id=b:1")).text
        async with opening(browser, "job:b:1") as stream:
            await changed(stream)  # nothing changes: a new tab is told what was before it
            await looked(door)
            row = await store.get("b:1")
            assert row is not None
            await store.record([msgspec.structs.replace(row, run=row.run + 1)])
            await changed(stream)


@pytest.mark.usefixtures("quick")
async def test_a_look_that_fails_does_not_end_the_updates(
    door: Door, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever Redis holds: the next look may succeed."""
    monkeypatch.setattr(loops, "AWAY_S", 0.05)
    async with logged_in(door) as browser, listening(browser, "job:b:1") as stream:
        await rig.redis.execute_command("SET", keys.ATTEMPTS + "b:1", "no list")
        await looked(door)
        await rig.redis.delete(keys.ATTEMPTS + "b:1")
        with monkeypatch.context() as broken:
            broken.setattr(events, "digest", lambda *_: 1 // 0)
            await looked(door)
        await rig.producer.enqueue(hello(), batch="b", custom_id="1")
        await changed(stream)


@pytest.mark.usefixtures("quick")
async def test_a_tenant_hears_nothing_of_another(
    door: Door, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a batch of another tenant moves is nobody else's business."""
    monkeypatch.setattr(topics, "CHARTS_S", 1e9)
    async with (
        logged_in(door, tenant="acme") as browser,
        listening(browser, "overview") as stream,
    ):
        await rig.producer.enqueue(hello(), batch="other/b", custom_id="1")
        heard = asyncio.create_task(changed(stream))
        await looked(door)
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


@pytest.mark.usefixtures("quick")
async def test_many_tabs_cost_one_look(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall of screens must not load Redis."""
    monkeypatch.setattr(events, "MOST", 20)
    poller = door.app[events.EVENTS]
    async with logged_in(door) as browser:
        tabs = [await browser.session.get(f"{browser.url}/events?of=overview") for _ in range(20)]
        await looked(door)
        assert poller.tabs == 20
        assert (await browser.get("/events?of=overview")).status == 503
        before, at = poller.looks, time.monotonic()
        await looked(door)
        assert poller.looks - before <= (time.monotonic() - at) / events.LOOK_S + 1
        for tab in tabs:
            tab.close()
        await until(lambda: not poller.tabs)
        before = poller.looks
        await asyncio.sleep(0)
        assert poller.looks - before <= 1


async def test_a_gateway_that_stops_ends_its_streams(rig: Rig) -> None:
    """It waits for its requests, and a stream has no end of its own."""
    async with opened(rig.settings) as door, logged_in(door) as browser:
        tab = await browser.session.get(f"{browser.url}/events?of=overview")
        assert await tab.content.readuntil(b"\n\n") == events.RETRY
        at = time.monotonic()
    assert time.monotonic() - at < 1.5
    tab.close()
