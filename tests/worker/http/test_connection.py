"""One connection against a server that sends exactly these bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from nightmill_worker.http import connection as connections
from nightmill_worker.http import pool as pools
from nightmill_worker.http.connection import Answer
from nightmill_worker.http.errors import HttpError
from nightmill_worker.http.head import head_of, with_length
from nightmill_worker.http.opening import Opener
from nightmill_worker.http.pool import Pool
from tests.rig import until
from tests.worker.http.servers import Reader, Serve, Server, Writer, request_of, serving

HEAD = head_of(URL("http://h/v1/messages"), {}, by_proxy=False)
BODY = b'{"ok": true}'
SIZED = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"5\r\n%b\r\n7\r\n%b\r\n0\r\n\r\n" % (BODY[:5], BODY[5:])


def scripted(*answers: bytes | None, hold: bool = True, seen: list[str] | None = None) -> Serve:
    """Return what gives these answers, one a request; None closes the connection without one.

    `hold` leaves it open after the last one. The heads of the requests go to `seen`.
    """

    async def serve(reader: Reader, writer: Writer) -> None:
        for answer in answers:
            head, _ = await request_of(reader)
            if seen is not None:
                seen.append(head)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()
        if hold:
            await reader.read()

    return serve


@asynccontextmanager
async def pooled(serve: Serve) -> AsyncIterator[tuple[Pool, Server]]:
    """Run a server and a pool of connections to it."""
    async with serving(serve) as server:
        pool = Pool(Opener(URL(f"http://127.0.0.1:{server.port}"), None, 5))
        try:
            yield pool, server
        finally:
            pool.close()


async def whole(answer: Answer) -> bytes:
    """Return the body of an answer."""
    body = b""
    while chunk := await answer.read():
        body += chunk
    return body


async def call(pool: Pool, body: bytes = b"{}") -> tuple[int, dict[str, str], bytes]:
    """Make one call."""
    connection = await pool.take()
    try:
        answer = await connection.request(with_length(HEAD, body), body)
        return answer.status, answer.headers, await whole(answer)
    finally:
        pool.give_back(connection)


REUSED = {
    "sized": b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "chunk with spaces": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5 " + CHUNKS[1:],
    "chunk extension": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5;a=b" + CHUNKS[1:],
    "trailers": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"status: 9\r\n\r\n",
    "line feeds": (b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "no reason": b"HTTP/1.1 200\r\n" + SIZED + b"\r\n" + BODY,
    "interim": b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY,
    "http/1.0 kept": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + SIZED + b"\r\n" + BODY,
    "folded header": b"HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\n" + SIZED + b"\r\n" + BODY,
    "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "line ends after it": b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY + b"\r\n",
}  # fmt: skip
CLOSED = {
    "close": b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + SIZED + b"\r\n" + BODY,
    "http/1.0": b"HTTP/1.0 200 OK\r\n" + SIZED + b"\r\n" + BODY,
    "length and chunks": b"HTTP/1.1 200 OK\r\n" + SIZED + CHUNKED + b"\r\n" + CHUNKS,
    "stray answer": b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY + b"HTTP/1.1 200 OK\r\n",
    "stray bytes": b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY + b"\0\0\0",
}
ENDLESS = {
    "to the end of the connection": b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n" + BODY,
    "coded to the end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n" + BODY,
}


@pytest.mark.parametrize("name", [*REUSED, *CLOSED])
async def test_an_answer_is_whole_and_its_connection_is_kept_when_it_can_be(name: str) -> None:
    """Each answer is paid; a connection after which bytes may follow is never used again."""
    script = (REUSED | CLOSED)[name]
    async with pooled(scripted(script, script)) as (pool, server):
        for _ in range(2):
            status, headers, body = await call(pool)
            assert (status, body) == ((204, b"") if name == "empty" else (200, BODY))
            assert headers.get("status") is None
        assert len(server.writers) == (1 if name in REUSED else 2)


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_body_may_end_with_its_connection(name: str) -> None:
    """HTTP/1.0 servers and simple proxies send no length."""
    async with pooled(scripted(ENDLESS[name], hold=False)) as (pool, _):
        assert (await call(pool))[2] == BODY


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (None, "connection_dropped"),
        (b"HTTP/1.1 200 OK\r\n" + SIZED, "connection_dropped"),
        (b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n{", "truncated_response"),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n" + CHUNKS[:-3], "truncated_response"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n" + CHUNKED + b"\r\n" + CHUNKS[:-3],
         "truncated_response"),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\nxyz\r\n", "invalid_response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "invalid_response"),
        (b"<html>", "invalid_response"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * (300 << 10), "invalid_response"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * (60 << 10), "invalid_response"),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n0\r\n" + b"x: a\r\n" * (60 << 10),
         "invalid_response"),
        (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n5;" + b"x" * (600 << 10), "invalid_response"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_whole_is_an_error(script: bytes | None, kind: str) -> None:
    """And headers without an end take no memory."""
    async with pooled(scripted(script, hold=False)) as (pool, _):
        with pytest.raises(HttpError) as caught:
            await call(pool)
        assert caught.value.kind == kind
        await until(lambda: not pool._all)


async def test_the_first_of_two_headers_counts_and_names_are_in_lower_case() -> None:
    """A proxy that adds a second request-id is further from the endpoint."""
    script = b"HTTP/1.1 200 OK\r\nRequest-Id: a\r\nrequest-id: b\r\n" + SIZED + b"\r\n" + BODY

    async with pooled(scripted(script)) as (pool, _):
        assert (await call(pool))[1]["request-id"] == "a"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"req_\xe9", "req_é"), ("req_é".encode(), "req_é"), (b"\xff\xc3\xa9", "ÿÃ©")],
)
async def test_a_header_is_read_as_utf_8_or_else_as_latin_1(raw: bytes, expected: str) -> None:
    """Half of a surrogate pair ended workers, and isolated calls that were paid."""
    script = b"HTTP/1.1 200 OK\r\nrequest-id: " + raw + b"\r\n" + SIZED + b"\r\n" + BODY
    async with pooled(scripted(script)) as (pool, _):
        assert (await call(pool))[1]["request-id"] == expected


async def test_an_answer_may_come_before_all_of_the_request_is_sent() -> None:
    """A 413 is the answer. The connection, on which half a request is, is not used again."""
    read = asyncio.Event()

    async def serve(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too large\r\n" + SIZED + b"\r\n" + BODY)
        await read.wait()

    async with pooled(serve) as (pool, _):
        status, _, body = await call(pool, b"x" * (30 << 20))
        assert (status, body) == (413, BODY)
        await until(lambda: not pool._all)
        read.set()


async def test_a_slow_reader_holds_up_its_own_connection_alone() -> None:
    """What waits to be read is bounded; then all of it comes."""
    size = 16 << 20
    script = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size

    async with pooled(scripted(script)) as (pool, _):
        connection = await pool.take()
        answer = await connection.request(with_length(HEAD, b"{}"), b"{}")
        await until(lambda: not connection._reading)
        for _ in range(20):
            await asyncio.sleep(0)
        assert answer.waiting <= connections.WAITING_BYTES + (1 << 20)
        assert len(await whole(answer)) == size
        assert connection.reusable


async def test_a_call_that_is_cancelled_or_closed_leaves_no_connection() -> None:
    """The server learns that nobody waits, and a body without a length is not taken for whole."""
    seen: list[str] = []
    script = b"HTTP/1.1 200 OK\r\n\r\n{"
    async with pooled(scripted(script, seen=seen)) as (pool, server):
        waiting = asyncio.create_task(call(pool))
        await until(lambda: len(seen) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: not server.tasks)
        closed = asyncio.create_task(call(pool))
        await until(lambda: len(seen) == 2)
        pool.close()
        with pytest.raises(HttpError, match="closed"):
            await closed


async def test_idle_connections_are_closed_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before most servers close theirs: a request that meets that end is lost."""
    monkeypatch.setattr(pools, "KEPT_S", 0.05)
    script = b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY
    async with pooled(scripted(script, script)) as (pool, server):
        await asyncio.gather(*(call(pool) for _ in range(3)))
        assert len(server.writers) == 3
        await until(lambda: not server.tasks)
        assert not pool._idle


async def test_a_connection_that_waits_is_not_taken_by_another_call() -> None:
    """Each answer belongs to the request before it."""
    script = b"HTTP/1.1 200 OK\r\n" + SIZED + b"\r\n" + BODY
    async with pooled(scripted(script)) as (pool, server):
        await call(pool)
        first = await pool.take()
        assert first is not await pool.take()
        assert len(server.writers) == 2


@pytest.mark.parametrize(
    ("url", "by_proxy", "first"),
    [
        ("http://h/v1/messages", False, b"POST /v1/messages HTTP/1.1\r\nHost: h\r\n"),
        ("http://h:80/v1/messages", False, b"POST /v1/messages HTTP/1.1\r\nHost: h\r\n"),
        ("https://h:8443/a%20b", False, b"POST /a%20b HTTP/1.1\r\nHost: h:8443\r\n"),
        ("http://[::1]:81/x", False, b"POST /x HTTP/1.1\r\nHost: [::1]:81\r\n"),
        ("http://b\xfccher.example/x", False, b"POST /x HTTP/1.1\r\nHost: xn--bcher-kva.example"),
        ("http://h/x", True, b"POST http://h/x HTTP/1.1\r\nHost: h\r\n"),
    ],
)
def test_the_head_names_the_endpoint(url: str, *, by_proxy: bool, first: bytes) -> None:
    """As the standard wants it: servers with several names choose by it."""
    head = with_length(head_of(URL(url), {"x-a": "1"}, by_proxy=by_proxy), b"{}")
    assert head.startswith(first)
    assert head.endswith(b"x-a: 1\r\ncontent-length: 2\r\n\r\n")


@pytest.mark.parametrize("value", ["1\r\nevil: 1", "1\n2", "\0"])
def test_no_header_adds_another_one(value: str) -> None:
    """Settings are checked before; this is the last place."""
    with pytest.raises(ValueError, match="line end"):
        head_of(URL("http://h/"), {"x": value}, by_proxy=False)
