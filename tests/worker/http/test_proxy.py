"""Calls by an HTTP proxy, as curl and the SDKs make them; which calls go directly."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from yarl import URL

from nightmill.errors import SettingsError
from nightmill_worker.http.proxy import bypassed, proxy_for
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply, StopAccount
from tests.worker.messages.endpoint import PARAMS, settings

PLACE = URL("http://api.example.invalid/v1/messages")
BASIC = "Basic " + base64.b64encode(b"me:p@ss w").decode()


@dataclass
class Proxied:
    """What a proxy received: the first line and the headers of each request."""

    port: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@asynccontextmanager
async def proxying(answer: bytes) -> AsyncIterator[Proxied]:
    """Run a proxy that gives one answer to everything."""
    proxied = Proxied()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines)
        proxied.requests.append((first, {**headers, "raw": head}))
        await reader.readexactly(int(headers.get("content-length", "0")))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        proxied.port = server.sockets[0].getsockname()[1]
        yield proxied


async def call(base_url: str) -> Reply | Broken:
    """Make one call with the proxies of the environment."""
    async with asyncio.timeout(60), MessagesClient(settings(base_url)) as client:
        return await client.send(PARAMS)


async def test_a_plain_call_goes_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy saw nothing: the call ended with 'Cannot connect to host'."""
    async with proxying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as proxied:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss%20w@127.0.0.1:{proxied.port}")
        reply = await call("http://api.example.invalid")
    assert reply == Reply(status=200, headers=reply.headers, body=b"{}")
    ((first, headers),) = proxied.requests
    assert first == "POST http://api.example.invalid/v1/messages HTTP/1.1"
    assert f"Proxy-Authorization: {BASIC}" in headers["raw"]
    assert headers["x-api-key"] == "sk-secret"


async def test_a_call_over_tls_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets its own credential, and neither ours nor the request."""
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    async with proxying(answer) as proxied:
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss%20w@127.0.0.1:{proxied.port}")
        reply = await call("https://api.example.invalid")
    ((first, headers),) = proxied.requests
    assert first == "CONNECT api.example.invalid:443 HTTP/1.1"
    assert f"Proxy-Authorization: {BASIC}" in headers["raw"]
    assert "sk-secret" not in headers["raw"]
    assert isinstance(reply, Reply)
    outcome = classify(reply, 0)
    assert isinstance(outcome, StopAccount)
    assert "the proxy answered CONNECT with 407" in outcome.error.message
    assert "HTTPS_PROXY" in (outcome.error.fix or "")
    assert "p@ss" not in f"{outcome}"


async def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its credential is not."""
    monkeypatch.setenv("ALL_PROXY", "me:p%40ss@127.0.0.1:1")
    reply = await call("https://api.example.invalid")
    assert isinstance(reply, Broken)
    assert reply.kind == "connection_error"
    assert "127.0.0.1:1" in reply.detail
    assert "p@ss" not in reply.detail
    assert "p%40ss" not in reply.detail


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"http_proxy": ""}, None),
        ({"HTTPS_PROXY": "http://p:1"}, None),
        ({"HTTP_PROXY": "http://p:1"}, "HTTP_PROXY http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "http_proxy": "http://q:1"}, "http_proxy http://q:1"),
        ({"ALL_PROXY": "https://u:p@q"}, "ALL_PROXY https://q"),
        ({"all_proxy": "q:3128/"}, "all_proxy http://q:3128"),
        ({"all_proxy": "http://u:1/p#a?@q:3128"}, "all_proxy http://q:3128"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "example.invalid"}, None),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
    ],
)
def test_which_variable_names_the_proxy(env: dict[str, str], expected: str | None) -> None:
    """As with curl."""
    found = proxy_for(PLACE, env)
    assert (found and str(found)) == expected


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "my.localhost", "[::1]", "[::]"]
)
def test_this_machine_is_called_directly(host: str) -> None:
    """A rehearsal's simulator is on this machine; a proxy would not find it."""
    assert proxy_for(URL(f"http://{host}:8399/v1/messages"), {"ALL_PROXY": "http://p"}) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "a.example.com", True),
        ("", "a.example.com", False),
        ("example.com", "example.com", True),
        ("example.com", "a.example.com", True),
        ("example.com", "notexample.com", False),
        (".example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("x, .EXAMPLE.com", "A.example.com", True),
        ("x example.com.", "example.com", True),
        ("example.com:8443", "example.com:8443", True),
        ("example.com:8443", "example.com", False),
        ("example.com:443", "example.com", True),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8:443", "10.2.3.4", True),
        ("10.0.0.0/8", "11.2.3.4", False),
        ("10.2.3.4", "10.2.3.4", True),
        ("10.2.3.4:80", "10.2.3.4", False),
        ("fd00::/8", "[fd00::1]", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        ("fd00::2", "[fd00::1]", False),
        (".", "a.example.com", False),
        ("10.0.0.0/99", "10.2.3.4", False),
    ],
)
def test_what_no_proxy_lists_is_called_directly(no_proxy: str, host: str, *, direct: bool) -> None:
    """Hosts, suffixes, ports and networks, as people write them."""
    assert bypassed(URL(f"https://{host}/v1/messages"), no_proxy) is direct


@pytest.mark.parametrize(
    "given",
    [
        "socks5://u:hunter2@p:1080",
        "http://hunter2:hunter2",
        "http://",
        "http://p:1/path",
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused(given: str) -> None:
    """It would be found by every call."""
    with pytest.raises(SettingsError, match="HTTP_PROXY") as caught:
        proxy_for(PLACE, {"HTTP_PROXY": given})
    assert "hunter2" not in str(caught.value)
