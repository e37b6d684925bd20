"""The pages in a real Chromium: no error, no violation of the policy, no barrier; and live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys
from nightmill_worker.simulator.config import Fault
from tests.gateway.console.chromium import PHONE, ColorScheme, chromium, needs_chromium, tab
from tests.rig import Rig, hello

if TYPE_CHECKING:
    from tests.gateway.door import Door

pytestmark = needs_chromium
PAGES = {
    "overview": "/",
    "batches": "/batches",
    "lanes": "/lanes",
    "workers": "/workers",
    "audit": "/audit",
    "one": "/batches/one?name=evening",
    "by text": "/batches/one?name=evening&text=a",
    "filtered": "/batches?search=WWW&sort=failed",
}
JOB = "/jobs/one?id=evening%3A3"
EVIL = "<img src=x onerror=window.evil=1><script>window.evil=1</script>"


async def filled(rig: Rig) -> None:
    """Make batches with rows of every kind."""
    rig.sim.configure(faults=(Fault(status=400, share=0.3),))
    for n in range(20):
        await rig.producer.enqueue(hello(f"{n} {EVIL}"), batch="evening", custom_id=f"{n}")
    await rig.producer.enqueue(hello(EVIL), batch="with <b>markup</b>", custom_id=EVIL)
    await rig.work_off()
    await rig.producer.enqueue(hello(), batch=f"{'W' * 60}/{'x' * 300}", custom_id="1" * 300)
    for n in range(5):
        await rig.producer.enqueue(hello(), batch="waits", custom_id=f"{n}")


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", PHONE)], ids=str
)
async def test_every_page_is_clean(door: Door, rig: Rig, scheme: ColorScheme, width: int) -> None:
    """No console error, no violation, no foreign request, no barrier, nothing cut off."""
    await filled(rig)
    key = await door.key_of(role="operator", tenant="*")
    async with (
        rig.working(only_batch="none"),
        chromium() as browser,
        tab(browser, door.url, key, scheme=scheme, width=width) as seen,
    ):
        for name, path in {**PAGES, "job": JOB}.items():
            await seen.open(path)
            await seen.page.wait_for_selector("main")
            await seen.picture(f"{name}-{scheme}-{width}")
            assert await seen.barriers() == [], name
            scrolled = await seen.page.evaluate("document.documentElement.scrollWidth")
            assert scrolled <= width, name
            assert await seen.complaints() == [], name
            assert await seen.page.evaluate("window.evil") is None, name


async def test_an_update_arrives_within_two_seconds_and_disturbs_nothing(
    door: Door, rig: Rig
) -> None:
    """What is open stays open, what has the focus keeps it, and the page is not loaded again."""
    await rig.producer.enqueue(hello(), batch="b", custom_id="0")
    key = await door.key_of(role="operator", tenant="*")
    async with chromium() as browser, tab(browser, door.url, key) as seen:
        page = seen.page
        await page.wait_for_function("document.getElementById('live').textContent === 'live'")
        await page.evaluate("window.same = true")
        await page.click("#throughput-numbers summary")
        await page.focus("a[href='/batches']")
        at = time.monotonic()
        await rig.producer.enqueue(hello(), batch="b", custom_id="1")
        await page.wait_for_selector("[data-name='waiting'][data-value='2']", timeout=5000)
        assert time.monotonic() - at < 2.5  # 2 s, and the time to ask the browser
        assert await page.evaluate("window.same")
        assert await page.evaluate("document.getElementById('throughput-numbers').open")
        focused = await page.evaluate("document.activeElement.getAttribute('href')")
        assert focused == "/batches"
        assert await seen.complaints() == []


async def test_a_thousand_batches_are_quick_and_small(door: Door, rig: Rig) -> None:
    """First paint within a second, 200 kB a page."""
    for n in range(1000):
        await rig.redis.execute_command("SADD", "nightmill:batches", f"batch-{n}")
    await rig.producer.enqueue(hello(), batch="b", custom_id="0")
    key = await door.key_of(role="operator", tenant="*")
    async with chromium() as browser, tab(browser, door.url, key) as seen:
        for name, path in PAGES.items():
            await seen.open(path)
            painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            await seen.page.wait_for_function(painted)
            paint = await seen.page.evaluate(painted)
            size = await seen.page.evaluate(
                "[...performance.getEntriesByType('navigation'),"
                "...performance.getEntriesByType('resource')]"
                ".reduce((sum, each) => sum + each.decodedBodySize, 0)"
            )
            assert size <= 200_000, (name, size)
            assert paint <= 1000, (name, paint)


async def test_without_a_script_every_page_shows_the_same(door: Door, rig: Rig) -> None:
    """Reloading is enough."""
    await filled(rig)
    key = await door.key_of(role="operator", tenant="*")
    async with chromium() as browser:
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"{door.url}/login")
        await page.fill("#key", key)
        await page.click("main button")
        for path in PAGES.values():
            await page.goto(door.url + path)
            assert await page.locator("h1").count() == 1
        await context.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", PHONE)], ids=str
)
async def test_the_pages_beside_are_clean_too(
    door: Door, rig: Rig, scheme: ColorScheme, width: int
) -> None:
    """Login, a wrong key, an error, a confirmation of each action, and an audit log with lines."""
    await filled(rig)
    key = await door.key_of(role="operator", tenant="*")
    async with chromium() as browser, tab(browser, door.url, scheme=scheme, width=width) as seen:

        async def check(name: str) -> None:
            await seen.picture(f"{name}-{scheme}-{width}")
            assert await seen.barriers() == [], name
            assert await seen.page.evaluate("document.documentElement.scrollWidth") <= width, name
            seen.problems[:] = [
                line for line in seen.problems if "the server responded" not in line
            ]
            assert await seen.complaints() == [], name

        await seen.open("/login")
        await check("login")
        await seen.page.fill("#key", "nm_wrong")
        await seen.page.press("#key", "Enter")
        await seen.page.wait_for_selector("#problem")
        await check("wrong-key")
        await seen.page.fill("#key", key)
        await seen.page.press("#key", "Enter")
        await seen.page.wait_for_url(door.url + "/")
        await seen.open("/batches/one?name=none")
        await check("error")
        for action in ("pause", "resume", "retry", "adjust", "cancel"):
            await seen.open("/batches")
            await seen.page.check("[data-all]")
            await seen.page.click(f"button[value={action}]")
            await seen.page.wait_for_selector(
                f"input[name=action][value={action}]", state="attached"
            )
            await check(f"confirm-{action}")
        await seen.page.click("main button.danger")
        await seen.page.wait_for_selector("p.note")
        await seen.open("/audit")
        assert "cancel" in await seen.page.inner_text("table")
        await check("audit-lines")


async def test_a_page_of_a_batch_that_is_gone_says_so(door: Door, rig: Rig) -> None:
    """It said "not live: trying again" for ever, over numbers that are no more."""
    await rig.producer.enqueue(hello(), batch="b", custom_id="0")
    key = await door.key_of(role="operator", tenant="*")
    async with chromium() as browser, tab(browser, door.url, key) as seen:
        await seen.open("/batches/one?name=b")
        await seen.page.wait_for_function("document.getElementById('live').textContent === 'live'")
        await rig.redis.srem(keys.BATCHES, "b")  # type: ignore[misc]
        await seen.page.wait_for_selector("h1:text('Not found')", timeout=10_000)
