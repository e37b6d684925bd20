"""A real Chromium without a window, which notes all that a page complains about."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import async_playwright

from tests.rig import until

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request

ColorScheme = Literal["light", "dark"]
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = 1280, 390
VIOLATIONS_ONLY = {
    "resultTypes": ["violations"],
    "selectors": False,
    "iframes": False,
    "preload": False,
}
CONTRAST = "color-contrast"
CONTRAST_ONLY = {**VIOLATIONS_ONLY, "runOnly": {"type": "rule", "values": [CONTRAST]}}
NO_CONTRAST = {**VIOLATIONS_ONLY, "rules": {CONTRAST: {"enabled": False}}}
LOOKS: tuple[tuple[ColorScheme, int, dict[str, Any]], ...] = (
    ("light", WIDE, VIOLATIONS_ONLY),
    ("dark", WIDE, CONTRAST_ONLY),
    ("light", PHONE, NO_CONTRAST),
)
"""How a page is looked at, and what axe checks then. Only colors differ in the dark, only places on
a phone: so each rule is applied to each look in which it may find something else."""
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""
NAMED = """(() => {
  const at = document.activeElement;
  return at.getAttribute("aria-label") || at.innerText.trim() || at.labels?.[0]?.innerText || "";
})()"""
OUTLINED = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"


@dataclass
class Tab:
    """One tab, and what it complained about."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Requests to other places than the gateway."""

    async def open(self, path: str) -> None:
        """Open a page of the console."""
        await self.page.goto(self.url + path)

    async def until(self, expression: str) -> Any:  # noqa: ANN401 - any value of JavaScript
        """Wait until an expression is true, and return its value.

        Playwright's own wait evaluates text within the page, which the policy does not allow.
        """
        await until(lambda: self.page.evaluate(expression), within=10)
        return await self.page.evaluate(expression)

    async def focus(self) -> str:
        """Return the accessible name of what has the focus, about as a screen reader says it."""
        return str(await self.page.evaluate(NAMED))

    async def walk_to(self, name: str) -> None:
        """Press Tab until something with a name has the focus, and see that this is shown."""
        for _ in range(60):
            await self.page.keyboard.press("Tab")
            if await self.focus() == name:
                assert await self.page.evaluate(OUTLINED), f"{name}: the focus cannot be seen"
                return
        raise AssertionError(f"{name}: no key leads there")

    async def complaints(self) -> list[str]:
        """Return console errors, violations of the policy, and foreign requests."""
        violations = await self.page.evaluate("window.violations")
        return [*self.problems, *violations, *self.foreign]

    async def clean(self, name: str) -> None:
        """Check the page that is open in each look: no barrier, nothing cut off, no complaint."""
        await self.page.wait_for_selector("main")
        for scheme, width, rules in LOOKS:
            await self.page.emulate_media(color_scheme=scheme)
            await self.page.set_viewport_size({"width": width, "height": 800})
            await self._picture(f"{name}-{scheme}-{width}")
            wide = await self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (name, scheme, wide)
            assert await self._barriers(rules) == [], (name, scheme, width)
        assert await self.complaints() == [], name
        assert await self.page.evaluate("window.evil") is None, name

    async def _barriers(self, options: dict[str, Any]) -> list[str]:
        """Return what axe finds that keeps people out, as one line each."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE_SCRIPT)
        found = await self.page.evaluate("options => axe.run(options)", options)
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    async def _picture(self, name: str) -> None:
        """Keep a picture of the whole page where NIGHTMILL_PICTURES says; else nowhere."""
        if folder := os.environ.get("NIGHTMILL_PICTURES"):
            await self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start Chromium for the length of the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(
    browser: Browser, url: str, key: str = "", *, session: str = "", script: bool = True
) -> AsyncIterator[Tab]:
    """Open a tab, which logs in with `key` or has a session; without both it has none."""
    context = await browser.new_context(
        java_script_enabled=script, viewport={"width": WIDE, "height": 800}
    )
    if session:
        name, _, value = session.partition("=")
        await context.add_cookies([{"name": name, "value": value, "url": url}])
    context.set_default_timeout(10_000)
    await context.add_init_script(VIOLATIONS)
    made = Tab(await context.new_page(), url)

    def log(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            made.problems.append(message.text)

    def request(sent: Request) -> None:
        if not sent.url.startswith((url, "data:")):
            made.foreign.append(sent.url)

    made.page.on("console", log)
    made.page.on("pageerror", lambda error: made.problems.append(str(error)))
    made.page.on("request", request)
    try:
        if key:
            await made.open("/login")
            await made.page.fill("#key", key)
            await made.page.click("main button")
            await made.page.wait_for_url(url + "/")
        yield made
    finally:
        await context.close()
