"""Connections: what sends no request is cut, and a stop drops no request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from nightmill.errors import ServerError
from nightmill_gateway.server import listening
from tests.gateway.door import opened

if TYPE_CHECKING:
    from tests.rig import Rig


async def test_a_connection_that_sends_no_request_is_cut(rig: Rig) -> None:
    """Half a header, sent slowly for ever, holds a connection (slow loris)."""
    async with opened(rig.settings, headers_s=0.1) as door:
        host, _, port = door.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert (await door("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-api-key: the\x00key\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-api-key: the-key" + b"y" * 20_000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 TLS\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\nexpect: x\r\nconnection: close\r\n\r\n", 417),
    ],
)
async def test_what_is_no_http_is_an_error_of_the_api(
    rig: Rig, head: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Aiohttp answered with a text, and logged the header that it could not read: the key."""
    async with opened(rig.settings) as door:
        host, _, port = door.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    first, _, body = answer.partition(b"\r\n\r\n")
    assert f"HTTP/1.1 {status} ".encode() in first or f"HTTP/1.0 {status} ".encode() in first
    error = json.loads(body)
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert f"request-id: {error['request_id']}".encode() in first.lower()
    assert b"server: nightmill\r\n" in first.lower() + b"\r\n", "no version is named"
    assert "key" not in caplog.text


async def test_a_connection_that_has_sent_a_request_stays() -> None:
    """The limit is for newcomers: a client keeps its connection between two requests."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.set()
        await go_on.wait()
        return web.Response(text="whole")

    app = web.Application()
    app.add_routes([web.get("/", slow)])
    async with (
        listening(app, "127.0.0.1", 0, grace_s=2, headers_s=0.05) as url,
        aiohttp.ClientSession() as session,
    ):
        getting = asyncio.ensure_future(session.get(url))
        await arrived.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        async with await getting as answer:
            assert await answer.text() == "whole"


async def test_a_stop_lets_requests_finish() -> None:
    """A deployment must not drop the requests that are running."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.set()
        await go_on.wait()
        return web.Response(text="whole")

    app = web.Application()
    app.add_routes([web.get("/", slow)])
    async with aiohttp.ClientSession() as session:
        async with listening(app, "127.0.0.1", 0, grace_s=5) as url:
            getting = asyncio.ensure_future(session.get(url))
            await arrived.wait()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        async with await getting as answer:
            assert await answer.text() == "whole"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_an_address_in_use_is_one_line(rig: Rig) -> None:
    """The second gateway of a machine needs another port."""
    async with opened(rig.settings) as door:
        port = int(door.url.rpartition(":")[2])
        with pytest.raises(ServerError, match="choose another"):
            async with listening(web.Application(), "127.0.0.1", port, grace_s=1):
                pass
