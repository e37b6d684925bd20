"""Calls over TLS: who is trusted, large bodies both ways, ends of connections, reuse."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from nightmill_worker.messages.outcome import Broken, Reply
from tests.rig import until
from tests.worker.http.servers import (
    Reader,
    Writer,
    answers,
    client,
    context,
    half_close,
    request_of,
    sent,
    serving,
    whole,
)
from tests.worker.messages.endpoint import EVENTS, PARAMS, sse

LARGE = 6 << 20


def large(size: int = LARGE) -> bytes:
    """Return a request of about this many bytes."""
    text = "x" * size
    message = {"role": "user", "content": text}
    return json.dumps({"max_tokens": 5, "stream": False, "messages": [message]}).encode()


async def test_an_authority_of_ones_own_is_trusted(trusted: Path) -> None:
    """SSL_CERT_FILE names it, as for curl and the SDKs."""
    async with serving(answers(), context(trusted)) as server:
        for host in ("localhost", "127.0.0.1"):
            reply = await sent(f"https://{host}:{server.port}")
            assert isinstance(reply, Reply)
            assert json.loads(reply.body)["max_tokens"] == 5


async def test_a_certificate_of_another_host_is_refused(trusted: Path) -> None:
    """The text names the host that was wanted, and the problem."""
    async with serving(answers(), context(trusted, "wrong")) as server:
        reply = await sent(f"https://localhost:{server.port}")
    assert isinstance(reply, Broken)
    assert reply.kind == "connection_error"
    assert f"cannot connect to localhost:{server.port}" in reply.detail
    assert "Hostname mismatch, certificate is not valid for 'localhost'" in reply.detail


async def test_an_unknown_authority_is_refused(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says which file cannot be verified, and how."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "other.pem"))
    async with serving(answers(), context(authority)) as server:
        reply = await sent(f"https://localhost:{server.port}")
    assert isinstance(reply, Broken)
    assert reply.kind == "connection_error"
    assert f"cannot connect to localhost:{server.port}" in reply.detail
    assert "certificate verify failed" in reply.detail


async def test_a_server_without_tls_is_named() -> None:
    """A wrong scheme or port is a common mistake."""

    async def plain(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(plain) as server:
        reply = await sent(f"https://localhost:{server.port}")
    assert isinstance(reply, Broken)
    assert reply.kind == "connection_error"
    assert f"localhost:{server.port}" in reply.detail


async def test_large_bodies_are_whole_both_ways(trusted: Path) -> None:
    """Calls that share the loop get their own."""
    bodies = [large(LARGE + n) for n in range(3)]
    async with (
        serving(answers(), context(trusted)) as server,
        client(f"https://localhost:{server.port}") as calls,
    ):
        for _ in range(2):
            replies = await asyncio.gather(*(calls.send(body) for body in bodies))
            assert [isinstance(reply, Reply) and reply.body for reply in replies] == bodies
        assert len(server.writers) == 3


async def test_a_large_stream_is_read_as_it_comes(trusted: Path) -> None:
    """Its pieces are larger and smaller than what TLS sends at once."""
    delta = {"type": "text_delta", "text": "y" * 40_000}
    events = [*EVENTS[:2], *([EVENTS[2] | {"delta": delta}] * 100), *EVENTS[3:]]
    stream = sse(events)

    async def serve(reader: Reader, writer: Writer) -> None:
        while True:
            await request_of(reader)
            head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            for start in range(0, len(stream), 70_001):
                piece = stream[start : start + 70_001]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")

    async with (
        serving(serve, context(trusted)) as server,
        client(f"https://localhost:{server.port}") as calls,
    ):
        for _ in range(2):
            reply = await calls.send(PARAMS)
            assert isinstance(reply, Reply)
            assert json.loads(reply.body)["content"][0]["text"] == "y" * 4_000_000
        assert len(server.writers) == 1


@pytest.mark.parametrize("end", ["notify", "eof", "reset"])
@pytest.mark.parametrize("missing", [0, 1])
async def test_the_end_of_the_connection_decides_nothing_about_a_body_with_a_length(
    trusted: Path, end: str, missing: int
) -> None:
    """It may come with close_notify, without it, or as a reset."""
    body = b'{"type": "message"}'

    async def serve(reader: Reader, writer: Writer) -> None:
        await request_of(reader)
        answer = whole(body)
        writer.write(answer[: len(answer) - missing])
        if end == "notify":
            writer.close()
        elif end == "eof":
            half_close(writer)
            await asyncio.Event().wait()
        else:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async with serving(serve, context(trusted)) as server:
        reply = await sent(f"https://localhost:{server.port}")
    if missing:
        assert isinstance(reply, Broken)
        kinds = ("truncated_response", "connection_dropped") if end == "reset" else ()
        assert reply.kind in (kinds or ("truncated_response",))
    elif end != "reset":
        assert isinstance(reply, Reply)
        assert reply.body == body


def framed(body: bytes, framing: str) -> bytes:
    """Return headers that say where a body ends, and the body."""
    if framing == "length":
        return b"content-length: %d\r\n\r\n%b" % (len(body), body)
    if framing == "chunked":
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        return b"transfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    return b"\r\n" + body


@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
async def test_the_tail_of_an_answer_is_read_when_its_server_closes(
    trusted: Path, framing: str
) -> None:
    """With uvloop the buffer of TLS, up to 256 KiB, was lost when the end came behind it."""
    bodies = [b"[%b]" % (b"7" * size) for size in range(520_000, 800_000, 80_000)]
    sent_all = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            tls = context(trusted)
            for body in bodies:
                with tls.wrap_socket(listening.accept()[0], server_side=True) as peer:
                    peer.recv(1 << 16)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n" + framed(body, framing))
                    peer.shutdown(socket.SHUT_WR)  # below TLS: without close_notify
                    sent_all.set()
                    with suppress(OSError):
                        peer.recv(1)

        serving_all = asyncio.create_task(asyncio.to_thread(serve))
        async with client(f"https://localhost:{listening.getsockname()[1]}") as calls:
            for body in bodies:
                connection = await calls._pool.take()
                answer = await connection.request(b"GET / HTTP/1.1\r\n\r\n", b"")
                for _ in range(20):  # a full buffer may hold up the end
                    await asyncio.sleep(0.005 if not sent_all.is_set() else 0)
                sent_all.clear()
                found = b""
                while chunk := await answer.read():
                    found += chunk
                assert found == body
                connection.end()
        await serving_all


async def test_a_body_that_the_connection_ends_is_whole_for_a_slow_reader(trusted: Path) -> None:
    """The end comes while the reader has stopped reading, since so much waits."""
    text = "z" * (3 << 20)
    body = json.dumps({"type": "message", "content": [{"type": "text", "text": text}]}).encode()

    async def serve(reader: Reader, writer: Writer) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        await writer.drain()

    async with (
        serving(serve, context(trusted)) as server,
        client(f"https://localhost:{server.port}") as calls,
    ):
        connection = await calls._pool.take()
        answer = await connection.request(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"")
        await until(lambda: not connection._reading or answer.ended)
        found = bytearray()
        while chunk := await answer.read():
            found += chunk
            await asyncio.sleep(0.001)
        assert bytes(found) == body
        calls._pool.give_back(connection)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_connections_are_reused(trusted: Path, version: ssl.TLSVersion) -> None:
    """A handshake costs the server and us milliseconds of CPU time."""
    tls = context(trusted)
    tls.maximum_version = version
    async with (
        serving(answers(), tls) as server,
        client(f"https://localhost:{server.port}") as calls,
    ):
        for _ in range(5):  # TLS 1.3 sends tickets after the handshake: they are no answer
            assert isinstance(await calls.send(PARAMS), Reply)
        assert len(server.writers) == 1
