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
from axe_playwright_python.async_playwright import Axe
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
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""
NAMED = """(() => {
  const at = document.activeElement;
  return at.getAttribute("aria-label") || at.innerText.trim() || at.labels?.[0]?.innerText || "";
})()"""
VIOLATIONS_ONLY = {"resultTypes": ["violations"]}
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

    async def barriers(self) -> list[str]:
        """Return what axe finds that keeps people out, as one line each."""
        found = (await Axe().run(self.page, options=VIOLATIONS_ONLY)).response["violations"]
        return [
            f"{each['id']}: {node['target']} {node['html'][:120]}"
            for each in found
            for node in each["nodes"]
        ]

    async def picture(self, name: str) -> None:
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
    browser: Browser, url: str, key: str = "", *, scheme: ColorScheme = "light", width: int = WIDE
) -> AsyncIterator[Tab]:
    """Open a tab, which has logged in with `key` unless it is "" ."""
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}
    )
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
