"""Calls by proxies: plain ones, tunnels, and TLS in TLS."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from nightmill_worker.messages.outcome import Reply
from tests.worker.http.servers import (
    OPENED,
    WAYS,
    Reader,
    Way,
    Writer,
    answers,
    client,
    context,
    head_of,
    reached,
    refused,
    sent,
    serving,
    silent,
    tunnels,
    whole,
)
from tests.worker.messages.endpoint import PARAMS


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_reaches_the_endpoint_and_keeps_the_connection(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """A proxy sees its own credential, and nothing of a call."""
    async with reached(way, trusted, monkeypatch) as (url, endpoint, seen), client(url) as calls:
        for _ in range(3):
            reply = await calls.send(PARAMS)
            assert isinstance(reply, Reply), reply
        assert len(endpoint.writers) == 1
        if "t" in way[0] and way != "tls":
            (head,) = seen
            assert head.startswith("CONNECT api.test:4433 HTTP/1.1\r\nHost: api.test:4433\r\n")
            assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in head
            assert "sk-secret" not in head


@pytest.mark.parametrize("way", WAYS)
async def test_many_calls_go_each_way_at_once(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Each has its own answer."""
    bodies = [PARAMS.replace(b"hi", b"%d" % n) for n in range(40)]
    async with reached(way, trusted, monkeypatch) as (url, _, _), client(url) as calls:
        for _ in range(2):
            replies = await asyncio.gather(*(calls.send(body) for body in bodies))
            for body, reply in zip(bodies, replies, strict=True):
                assert isinstance(reply, Reply), reply
                assert body[1:] in reply.body


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_call_by_a_plain_proxy_keeps_the_connection_to_it(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The proxy reads the call itself, so it gets whole requests."""
    tls = context(trusted) if scheme == "https" else None
    async with serving(answers(), tls) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}://localhost:{proxy.port}")
        async with client("http://api.test") as calls:
            for _ in range(3):
                assert isinstance(await calls.send(PARAMS), Reply)
        assert len(proxy.writers) == 1


@pytest.mark.parametrize(
    "opened",
    [
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nproxy-agent: p\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: y\n\n",
    ],
)
async def test_a_tunnel_is_open_whatever_the_proxy_says_of_a_body(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, opened: bytes
) -> None:
    """After a 2xx to CONNECT there is none."""
    async with (
        serving(answers(), context(trusted)) as endpoint,
        serving(tunnels(endpoint.port, opened=opened)) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://localhost:{proxy.port}")
        async with client("https://api.test") as calls:
            for _ in range(2):
                assert isinstance(await calls.send(PARAMS), Reply)
        assert len(endpoint.writers) == 1


@pytest.mark.parametrize("status", [407, 502])
async def test_a_proxy_that_opens_no_tunnel_answers_for_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Its body is not of the endpoint."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        writer.write(whole(b"<html>no</html>" * 50_000, f"{status} No Way", "retry-after: 7"))
        await writer.drain()

    async with serving(serve) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        reply = await sent("https://api.test")
    assert isinstance(reply, Reply)
    assert reply.status == status
    assert reply.headers["retry-after"] == "7"
    assert f"{status} No Way".encode() in reply.body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
    ],
    ids=["closes", "closes after 200", "half", "no HTTP", "interim"],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_a_tunnel_that_breaks_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, trusted: Path, answer: bytes, *, reset: bool
) -> None:
    """The endpoint was not reached, so nothing is paid."""
    del trusted

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        writer.write(answer)
        await writer.drain()
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with serving(serve) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        detail = refused(await sent("https://api.test"))
    assert "cannot connect to api.test:443" in detail


@pytest.mark.parametrize("answer", [b"", OPENED])
async def test_a_proxy_that_hangs_ends_at_the_time(
    monkeypatch: pytest.MonkeyPatch, trusted: Path, answer: bytes
) -> None:
    """It may hang before its answer, and after it."""
    del trusted

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        writer.write(answer)
        await silent(reader, writer)

    async with serving(serve) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        detail = refused(await sent("https://api.test", connect_timeout_s=0.5))
    assert detail == "cannot connect to api.test:443: no connection within 0.5 s"
