"""One gateway, one Chromium and one set of data for all tests of a module that need a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest_asyncio

from tests.gateway.console.browser import browsing
from tests.gateway.console.chromium import chromium, tab
from tests.gateway.console.samples import EVIL, EVIL_BATCH, key_named, store_hostile, store_samples
from tests.gateway.door import Door, opened
from tests.rig import Rig, emptied, hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    import pytest
    from playwright.async_api import Browser

    from tests.gateway.console.chromium import Tab


@dataclass(frozen=True, kw_only=True)
class Console:
    """What the tests of a module share. A test uses batches of its own for what it changes."""

    browser: Browser
    door: Door
    rig: Rig
    key: str
    """Of an operator of all tenants, whose name is EVIL."""
    session: str
    """A cookie of a session with that key."""

    def tab(self, *, script: bool = True) -> AbstractAsyncContextManager[Tab]:
        """Open a tab that has logged in."""
        return tab(self.browser, self.door.url, session=self.session, script=script)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(
    valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    """Return a gateway with something on every page, a worker that takes no job, a Chromium."""
    folder = tmp_path_factory.mktemp("console")
    async with (
        rigged(emptied(valkey_url), folder) as rig,
        opened(rig.settings) as door,
        chromium() as browser,
    ):
        await rig.producer.enqueue(hello(EVIL), batch="called", custom_id="evil")
        await store_samples(door, rig)
        await store_hostile(door)
        key = await key_named(door, EVIL)
        async with rig.working(only_batch="none"), browsing(door.url) as operator:
            cookies = (await operator.post("/login", {"key": key})).cookies
            session = "; ".join(f"{name}={each.value}" for name, each in cookies.items())
            for action, batch in (("adjust", "night"), ("resume", EVIL_BATCH)):
                fields = {"action": action, "batch": batch, "weight": "7"}
                await operator.act("/batches", "/batches/act", fields)
            yield Console(browser=browser, door=door, rig=rig, key=key, session=session)
