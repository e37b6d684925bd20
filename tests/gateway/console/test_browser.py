"""The pages in a real Chromium: no error, no violation of the policy, no barrier; and live.

All tests of this module share one gateway and one Chromium, and so one loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from nightmill.queue import keys
from tests.gateway.console.chromium import needs_chromium, tab
from tests.gateway.console.samples import EVIL, EVIL_BATCH
from tests.gateway.door import opened
from tests.rig import hello, rigged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.console.chromium import Tab
    from tests.gateway.console.conftest import Console

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]
PAGES = {
    "overview": "/",
    "day": "/?period=day",
    "batches": "/batches",
    "lanes": "/lanes",
    "workers": "/workers",
    "audit": "/audit",
}
BATCHES = {
    "batch": "/batches/one?name=night",
    "by-text": "/batches/one?name=night&text=a",
    "filtered": "/batches?search=WWW&sort=failed",
    "job": "/jobs/one?id=night%3Aline-3",
}
_BATCH, _JOB = quote(EVIL_BATCH, safe=""), quote(f"{EVIL_BATCH}:{EVIL}", safe="")
HOSTILE = {
    "hostile-batch": f"/batches/one?name={_BATCH}",
    "hostile-found": f"/batches/one?name={_BATCH}&text=evil",
    "hostile-about": f"/audit?about={_BATCH}",
    "hostile-failed": f"/jobs/one?id={_BATCH}%3A2",
    "hostile-job": f"/jobs/one?id={_JOB}",
    "hostile-called": "/jobs/one?id=called%3Aevil",
}
"""Pages of which whatever a user, a model or an endpoint wrote is the most."""


@pytest.mark.parametrize("pages", [PAGES, BATCHES, HOSTILE], ids=["shared", "batches", "hostile"])
async def test_every_page_is_clean(console: Console, pages: dict[str, str]) -> None:
    """No error, no barrier, nothing cut off; hostile text is on all of them, and nothing runs."""
    async with console.tab() as seen:
        for name, path in pages.items():
            await seen.open(path)
            await seen.clean(name)
            if name in {"lanes", "audit", *HOSTILE}:
                assert "window.evil=1" in await seen.page.inner_text("main"), f"{name}: as text"


async def test_pages_that_a_form_leads_to_are_clean(console: Console) -> None:
    """Login with a wrong key, confirmations, a wrong value, a note, a wrong edit, an error."""
    async with tab(console.browser, console.door.url) as seen:
        await seen.open("/login")
        await seen.clean("login")
        await seen.page.fill("#key", "nm_wrong")
        await seen.page.press("#key", "Enter")
        await seen.page.wait_for_selector("#problem")
        await answered_with_error(seen)
        await seen.clean("wrong-key")
    async with console.tab() as seen:
        for action in ("cancel", "adjust"):
            await seen.open("/batches")
            await seen.page.check("[data-all]")
            await seen.page.click(f"button[value={action}]")
            await seen.page.wait_for_selector(f"[name=action][value={action}]", state="attached")
            await seen.clean(f"confirm-{action}")
        await seen.page.fill("#weight", "many")
        await seen.page.click("main form button.primary")
        await seen.page.wait_for_selector("#problem")
        await answered_with_error(seen)
        await seen.clean("refused")
        await seen.open(HOSTILE["hostile-batch"])
        await seen.page.click("main form > button[value=pause]")
        await seen.page.click("main form button.primary")
        await seen.page.wait_for_selector(".note[role=status]")
        await seen.clean("note")
        await seen.open(BATCHES["job"])
        await seen.page.evaluate(
            "for (const each of document.querySelectorAll('details')) each.open = true"
        )
        await seen.clean("opened")
        await seen.page.fill("#params", "{")
        await seen.page.click("#edit button.primary")
        await seen.page.wait_for_selector("#problem")
        await answered_with_error(seen)
        assert await seen.page.input_value("#params") == "{"
        await seen.clean("refused-edit")
        await seen.open("/jobs/one?id=nothing")
        await answered_with_error(seen)
        await seen.clean("error")


async def answered_with_error(seen: Tab) -> None:
    """Forget the line that Chromium writes about the status of an error's page; there is one."""
    lines = [line for line in seen.problems if "the server responded with a status of 4" in line]
    assert lines
    seen.problems[:] = [line for line in seen.problems if line not in lines]


async def test_a_batch_is_paused_with_the_keyboard_only(console: Console) -> None:
    """Log in, go to Batches, choose one, pause it, confirm: no mouse, and the focus is seen."""
    for name in ("first", "second"):
        await console.rig.producer.enqueue(hello(), batch=name, custom_id="0")
    url = console.door.url
    async with tab(console.browser, url) as seen:
        await seen.open("/")
        await seen.page.keyboard.type(console.key)  # the field has the focus
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_url(f"{url}/")
        await seen.page.keyboard.press("Tab")
        assert await seen.focus() == "Skip to the content"
        await seen.walk_to("Batches")
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_url(f"{url}/batches")
        await seen.walk_to("Select second")
        await seen.page.keyboard.press("Space")
        await seen.walk_to("Pause ...")
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_url(f"{url}/batches/confirm")
        await seen.walk_to('Pause "second"')
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_url(f"{url}/batches")
        assert '"second" is paused' in await seen.page.inner_text(".note")
        assert "paused" in await seen.page.inner_text("#b-second")
        assert "paused" not in await seen.page.inner_text("#b-first")
        assert await seen.complaints() == []
    assert (await console.door.services.batches.counts("second")).flag == "paused"


async def test_an_update_arrives_within_two_seconds_and_disturbs_nothing(console: Console) -> None:
    """What is open stays open, what has the focus keeps it, and the page is not loaded again."""
    async with console.tab() as seen:
        page = seen.page
        await seen.open("/")
        await seen.until("document.getElementById('live').textContent === 'live'")
        await page.evaluate("window.same = true")
        await page.click("#throughput-numbers summary")
        await page.focus("a[href='/batches']")
        waiting = await page.evaluate(
            "Number(document.querySelector(\"[data-name='waiting']\").dataset.value)"
        )
        at = time.monotonic()
        await console.rig.producer.enqueue(hello(), batch="updated", custom_id="1")
        told = f"[data-name='waiting'][data-value='{waiting + 1}']"
        await page.wait_for_selector(told, timeout=5000)
        assert time.monotonic() - at < 4  # 2 s, and what a busy machine needs to draw
        assert await page.evaluate("window.same")
        assert await page.evaluate("document.getElementById('throughput-numbers').open")
        focused = await page.evaluate("document.activeElement.getAttribute('href')")
        assert focused == "/batches"
        assert await seen.complaints() == []


async def test_a_thousand_batches_are_quick_and_small(
    console: Console, valkey_url: str, tmp_path: Path
) -> None:
    """First paint within a second, 200 kB a page."""
    async with rigged(f"{valkey_url}?db=1", tmp_path) as rig, opened(rig.settings) as door:
        names = [f"batch-{n}" for n in range(1000)]
        await rig.redis.execute_command("SADD", keys.BATCHES, *names)
        await rig.producer.enqueue(hello(), batch="b", custom_id="0")
        key = await door.key_of(role="operator", tenant="*")
        async with tab(console.browser, door.url, key) as seen:
            for name, path in PAGES.items():
                await seen.open(path)
                painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
                paint = await seen.until(painted)
                size = await seen.page.evaluate(
                    "[...performance.getEntriesByType('navigation'),"
                    "...performance.getEntriesByType('resource')]"
                    ".reduce((sum, each) => sum + each.decodedBodySize, 0)"
                )
                assert size <= 200_000, (name, size)
                assert paint <= 1000, (name, paint)


async def test_without_a_script_every_page_shows_the_same(console: Console) -> None:
    """Reloading is enough."""
    async with console.tab(script=False) as seen:
        for path in (*PAGES.values(), *BATCHES.values()):
            await seen.open(path)
            assert await seen.page.locator("h1").count() == 1


async def test_a_page_of_a_batch_that_is_gone_says_so(console: Console) -> None:
    """It said "not live: trying again" for ever, over numbers that are no more."""
    await console.rig.producer.enqueue(hello(), batch="gone", custom_id="0")
    async with console.tab() as seen:
        await seen.open("/batches/one?name=gone")
        await seen.until("document.getElementById('live').textContent === 'live'")
        await console.rig.redis.execute_command("SREM", keys.BATCHES, "gone")
        await seen.page.wait_for_selector("h1:text('Not found')", timeout=10_000)
