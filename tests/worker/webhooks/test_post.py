"""Which addresses a webhook may be posted to."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from nightmill_worker.webhooks.post import is_public, post
from nightmill_worker.webhooks.reply import PostReply


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::10.0.0.1", False),
    ],
)
def test_only_the_public_internet_is_public(address: str, public: bool) -> None:  # noqa: FBT001
    """Each way to write a private address, also inside an IPv6 one."""
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nx-a: \xff\r\n\r\n", ""),
        (b"HTTP/1.1 999 \xff\r\nretry-after: nan\r\n\r\n", "999"),
        (b"HTTP/1.1 500 No\r\nretry-after: -1e999\r\n\r\n", "500"),
        (b"\xff\xff\r\n\r\n", "400"),
        (b"HTTP/1.1 200 OK\r\nx-a: " + b"\xff" * 20_000 + b"\r\n\r\n", "400"),
        (b"", "Server disconnected"),
    ],
)
async def test_any_answer_of_a_receiver_is_a_result_that_can_be_stored(
    answer: bytes, problem: str
) -> None:
    """The result is kept in Redis as JSON, and a receiver may send any bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        reply = await post(url, b"{}", {}, allow_private=True)
    assert reply.problem.startswith(problem)
    assert bool(reply.problem) == bool(problem)
    assert reply.retry_after_s == 0
    assert len(msgspec.json.encode(reply)) < 2000
    assert msgspec.json.decode(msgspec.json.encode(reply), type=PostReply) == reply
