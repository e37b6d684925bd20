"""Downloads of results whose client takes nothing: they are cut off, and are no defect."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from nightmill_gateway import app
from nightmill_gateway.answers import download
from nightmill_gateway.answers.reply import HUNG_UP
from nightmill_gateway.batches import handlers
from nightmill_gateway.console import entrance
from nightmill_gateway.console.batches import one
from tests.gateway.batches.made import PATH, created, ended
from tests.gateway.console.browser import browsing
from tests.gateway.console.test_listing import make
from tests.gateway.console.test_one import answered
from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

LINE = b"x" * (32 << 20)
"""More than the buffers of both ends hold."""


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collect the defects that are logged, while a line is LINE and a client has 50 ms."""
    found: list[object] = []
    for module in (app, entrance):
        monkeypatch.setattr(module, "report", lambda *about: found.append(about))
    monkeypatch.setattr(download, "WRITE_S", 0.05)
    monkeypatch.setattr(handlers, "result_line", lambda _: LINE)
    monkeypatch.setattr(one, "to_line", lambda _: LINE)
    return found


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection is closed."""
    pieces = []
    with suppress(ConnectionError):
        while piece := await reader.read(1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


async def cut(door: Door, path: str, header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a download, and read nothing until the gateway has cut it off."""
    ends: list[int] = []
    monkeypatch.setattr(app, "note_request", lambda *about: ends.append(about[3]))
    host, _, port = door.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 10)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{header}\r\n\r\n".encode())
        await until(lambda: bool(ends))
        assert ends == [HUNG_UP]
        sent = await asyncio.wait_for(all_of(reader), 10)
        assert sent[:13] == b"HTTP/1.1 200 "
        assert sent[-5:] != b"0\r\n\r\n", "an end makes the lines look whole"
    finally:
        writer.transport.abort()


async def test_one_of_the_api(
    rig: Rig, door: Door, defects: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory and its place are given back, and no traceback wakes anybody."""
    batch = await created(door, 1)
    async with rig.working():
        await ended(door, batch)
    header = f"x-api-key: {door.key}"
    await cut(door, f"{PATH}/{batch}/results", header, monkeypatch)
    assert not defects


async def test_one_of_the_console(
    door: Door, defects: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that is closed during a download is no defect either."""
    await make(door, "night", total=1, succeeded=1)
    await door.services.store.record([answered(1, "text")])
    async with browsing(door.url) as browser:
        cookies = (await browser.post("/login", {"key": await door.key_of(tenant="*")})).cookies
    session = "; ".join(f"{name}={each.value}" for name, each in cookies.items())
    path = "/batches/one/results.jsonl?name=night"
    await cut(door, path, f"cookie: {session}", monkeypatch)
    assert not defects
