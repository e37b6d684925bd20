"""Which connections carry the next call, and what comes of answers that are early."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from nightmill_worker.http.errors import HttpError
from nightmill_worker.http.opening import Opener
from nightmill_worker.messages.outcome import Broken, Reply
from tests.rig import until
from tests.worker.http.servers import (
    Reader,
    Way,
    Writer,
    client,
    head_of,
    length_in,
    reached,
    request_of,
    sent,
    serving,
    whole,
)
from tests.worker.messages.endpoint import PARAMS

LARGE = PARAMS.replace(b"hi", b"x" * (8 << 20))
DIRECT: tuple[Way, ...] = ("plain", "tls")
ERROR = b'{"type":"error","error":{"type":"request_too_large","message":"too large"}}'
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""SO_LINGER that makes close() a reset."""


def of_text(text: str) -> bytes:
    """Return a request with this prompt. It is not streamed, so that it is sent as it is."""
    return PARAMS.replace(b"hi", text.encode()).replace(b"{", b'{"stream":false,', 1)


@pytest.mark.parametrize("way", DIRECT)
@pytest.mark.parametrize("read", [0, 1, 300_000])
async def test_a_refusal_that_comes_while_a_body_is_sent_is_read(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way, read: int
) -> None:
    """The server closes with bytes unread, which is a reset: it ended as connection_dropped."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        if read:
            await reader.readexactly(read)
        writer.write(whole(ERROR, "413 Payload Too Large", "connection: close"))
        await writer.drain()

    async with reached(way, trusted, monkeypatch, serve) as (url, _, _), client(url) as calls:
        for _ in range(10):
            reply = await calls.send(LARGE)
            assert isinstance(reply, Reply), reply
            assert (reply.status, reply.body) == (413, ERROR)
        assert not calls._pool._idle


async def test_a_refusal_of_a_server_on_another_core_is_read() -> None:
    """It and the reset come between two steps of the client: 99 % of them were lost."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        listening.settimeout(30)
        calls_made = 40

        def serve() -> None:
            for n in range(calls_made):
                connection, _ = listening.accept()
                with connection, suppress(OSError):
                    connection.recv(1 << (n % 16))
                    connection.sendall(whole(ERROR, "413 Payload Too Large", "connection: close"))

        port = listening.getsockname()[1]
        async with client(f"http://127.0.0.1:{port}") as calls:
            serving_all = asyncio.create_task(asyncio.to_thread(serve))
            statuses: list[int | None] = []
            for _ in range(calls_made // 4):
                replies = await asyncio.gather(*(calls.send(LARGE) for _ in range(4)))
                statuses += [reply.status for reply in replies]
            await serving_all
    lost = statuses.count(None)  # a reset may still come between the look and the write
    assert statuses.count(413) == calls_made - lost
    assert lost <= calls_made // 2


@pytest.mark.parametrize("way", DIRECT)
@pytest.mark.parametrize("status", ["413 Payload Too Large", "200 OK"])
async def test_after_an_answer_that_is_early_the_connection_is_not_used_again(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way, status: str
) -> None:
    """The server would take the next request for the rest of the body."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        writer.write(whole(b'{"early": 1}', status))
        await writer.drain()
        await asyncio.Event().wait()

    async with reached(way, trusted, monkeypatch, serve) as (url, endpoint, _):
        async with client(url) as calls:
            for _ in range(2):
                reply = await calls.send(LARGE)
                assert isinstance(reply, Reply), reply
                assert reply.body == b'{"early": 1}'
        assert len(endpoint.writers) == 2


@pytest.mark.parametrize("way", DIRECT)
async def test_a_success_that_begins_early_still_gets_all_of_the_request(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """The answer needs it: both sides waited for the other until the time was up."""

    async def serve(reader: Reader, writer: Writer) -> None:
        while True:
            head = await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await writer.drain()
            await reader.readexactly(length_in(head))
            writer.write(b"2\r\n{}\r\n0\r\n\r\n")

    async with reached(way, trusted, monkeypatch, serve) as (url, endpoint, _):
        async with client(url, read_timeout_s=5) as calls:
            for _ in range(2):
                reply = await calls.send(LARGE)
                assert isinstance(reply, Reply), reply
                assert reply.body == b"{}"
        assert len(endpoint.writers) == 1


@pytest.mark.parametrize("way", DIRECT)
async def test_a_connection_that_is_reset_while_a_body_is_sent_was_dropped(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """It is no defect of nightmill: the call is tried again."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async with reached(way, trusted, monkeypatch, serve) as (url, _, _), client(url) as calls:
        for _ in range(10):
            reply = await calls.send(LARGE)
            assert isinstance(reply, Broken)
            assert reply.kind == "connection_dropped"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["HTTP/1.0 200 OK", "content-length: 2"], False),
        (["HTTP/1.0 200 OK", "content-length: 2", "Connection: Keep-Alive"], True),
        (["HTTP/1.1 200 OK", "content-length: 2"], True),
        (["HTTP/1.1 200 OK", "content-length: 2", "connection: close"], False),
        (["HTTP/1.1 200 OK", "content-length: 2", "Connection: foo, Close"], False),
        (["HTTP/1.1 200 OK", "content-length: 2", "Upgrade: h2", "Connection: Upgrade"], True),
        (["HTTP/1.1 200 OK", "transfer-encoding: chunked"], True),
        (["HTTP/1.1 200 OK", "transfer-encoding: chunked", "content-length: 2"], False),
        (["HTTP/1.1 200 OK", "content-length: 12", "transfer-encoding: chunked"], False),
    ],
)
async def test_what_an_answer_says_of_its_connection_is_followed(
    lines: list[str], *, kept: bool
) -> None:
    """With two lengths, the next proxy may have believed the other one."""
    chunked = "transfer-encoding: chunked" in lines
    answer = "\r\n".join([*lines, "", "2\r\n{}\r\n0\r\n\r\n" if chunked else "{}"]).encode()

    async def serve(reader: Reader, writer: Writer) -> None:
        while True:
            await request_of(reader)
            writer.write(answer)

    async with serving(serve) as server:
        async with client(f"http://127.0.0.1:{server.port}") as calls:
            for _ in range(3):
                reply = await calls.send(PARAMS)
                assert isinstance(reply, Reply), reply
                assert reply.body == b"{}"
        assert len(server.writers) == (1 if kept else 3)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_proxy_that_closes_after_some_requests_costs_no_call(*, announced: bool) -> None:
    """Many do, some of them without a word: the end is read before the next call."""

    async def serve(reader: Reader, writer: Writer) -> None:
        for left in reversed(range(3)):
            _, body = await request_of(reader)
            last = ["connection: close"] if announced and not left else []
            writer.write(whole(body, "200 OK", *last))
            await writer.drain()

    async with serving(serve) as server:
        async with client(f"http://127.0.0.1:{server.port}") as calls:

            async def run(name: int) -> None:
                for n in range(9):
                    body = of_text(f"{name}-{n}")
                    reply = await calls.send(body)
                    assert isinstance(reply, Reply), reply
                    assert reply.body == body

            await asyncio.gather(*(run(name) for name in range(5)))
        assert 15 <= len(server.writers) <= 20


async def test_idle_connections_that_close_as_calls_begin_mix_up_no_answers() -> None:
    """A call may be lost then, and is tried again; it never gets the answer of another one."""
    ending = asyncio.Event()

    async def serve(reader: Reader, writer: Writer) -> None:
        _, body = await request_of(reader)
        writer.write(whole(body))
        await ending.wait()

    async with (
        serving(serve) as server,
        client(f"http://127.0.0.1:{server.port}") as calls,
    ):
        for round_ in range(5):
            ending.clear()
            bodies = [of_text(f"{round_}-{n}") for n in range(50)]
            firsts = await _together(calls, bodies)
            assert all(isinstance(reply, Reply) for reply in firsts)
            ending.set()
            for _ in range(round_):
                await asyncio.sleep(0)
            for body, reply in zip(bodies, await _together(calls, bodies), strict=True):
                if isinstance(reply, Broken):
                    assert reply.kind == "connection_dropped"
                else:
                    assert reply.body == body
            await until(lambda: not any(c.transport for c in calls._pool._all))


async def _together(calls: object, bodies: list[bytes]) -> list[Reply | Broken]:
    return await asyncio.gather(*(calls.send(body) for body in bodies))  # type: ignore[attr-defined]


async def test_a_client_that_closes_while_a_connection_opens_ends_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection would be open for ever."""
    real, opened, go_on = Opener.open, asyncio.Event(), asyncio.Event()

    async def slow(self: Opener, lost: object) -> object:
        connection = await real(self, lost)  # type: ignore[arg-type]
        opened.set()
        await go_on.wait()
        return connection

    monkeypatch.setattr(Opener, "open", slow)
    async with serving(lambda *_: asyncio.Event().wait()) as server:  # type: ignore[arg-type]
        async with client(f"http://127.0.0.1:{server.port}") as calls:
            call = asyncio.create_task(calls.send(PARAMS))
            await opened.wait()
        go_on.set()
        reply = await call
        assert isinstance(reply, Broken)
        assert reply.kind == "connection_dropped"


async def test_an_answer_that_is_not_read_holds_up_its_server() -> None:
    """What waits of it is bounded."""
    sent_bytes = 0

    async def serve(reader: Reader, writer: Writer) -> None:
        nonlocal sent_bytes
        await request_of(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
            sent_bytes += 10_000

    async with (
        serving(serve) as server,
        client(f"http://127.0.0.1:{server.port}") as calls,
    ):
        connection = await calls._pool.take()
        answer = await connection.request(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n", b"{}")
        await until(lambda: not connection._reading)
        before = -1
        while before != sent_bytes:
            before = sent_bytes
            for _ in range(20):
                await asyncio.sleep(0)
        assert answer.waiting < 1 << 20
        calls._pool.give_back(connection)
        assert not calls._pool._idle
        assert await answer.read()
        with pytest.raises(HttpError):
            await answer.read()


async def test_a_large_answer_to_a_large_request_crosses_it(
    trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that echoes as it reads does not stop either side."""

    async def serve(reader: Reader, writer: Writer) -> None:
        head = await head_of(reader)
        size = length_in(head)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        while size:
            data = await reader.read(1 << 16)
            size -= len(data)
            writer.write(data)
            await writer.drain()

    async with reached("tls", trusted, monkeypatch, serve) as (url, _, _):
        body = PARAMS.replace(b"{", b'{"stream":false,', 1).replace(b"hi", b"x" * (200 << 10))
        reply = await sent(url, body)
    assert isinstance(reply, Reply)
    assert reply.body == body
