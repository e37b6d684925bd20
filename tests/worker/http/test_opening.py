"""Connections are opened by name and by address, within a time; a failure says what is wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from yarl import URL

from nightmill_worker.http.opening import Opener
from nightmill_worker.messages.outcome import Reply
from tests.redis_servers import free_port
from tests.rig import until
from tests.worker.http.servers import (
    Reader,
    Server,
    Writer,
    answers,
    client,
    context,
    head_of,
    refused,
    resolve,
    sent,
    serving,
    silent,
    whole,
)
from tests.worker.messages.endpoint import PARAMS


@contextmanager
def full() -> Iterator[int]:
    """Return a port at which the kernel lets new connections wait."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            with suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        yield listening.getsockname()[1]


async def test_an_ipv6_address_is_called() -> None:
    """Its brackets are of the URL alone."""
    async with serving(answers(), host="::1") as server:
        assert isinstance(await sent(f"http://[::1]:{server.port}"), Reply)


@pytest.mark.parametrize("only", ["127.0.0.1", "::1"])
async def test_of_two_addresses_one_is_enough(monkeypatch: pytest.MonkeyPatch, only: str) -> None:
    """A server may listen at one of the addresses of localhost."""
    resolve(monkeypatch, {"localhost": ["::1", "127.0.0.1"]})
    async with serving(answers(), host=only) as server:
        assert isinstance(await sent(f"http://localhost:{server.port}"), Reply)


async def test_an_address_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one is tried beside it, and the first is given up."""
    with full() as port:
        resolve(monkeypatch, {"two.test": ["127.0.0.1", "::1"]})
        async with serving(answers(), host="::1", port=port):
            assert isinstance(await sent(f"http://two.test:{port}"), Reply)


async def test_a_host_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that begin together ask once."""
    asked = resolve(monkeypatch, {})
    async with client("http://away.test") as calls:
        replies = await asyncio.gather(*(calls.send(PARAMS) for _ in range(100)))
        for reply in replies:
            assert "away.test:80" in refused(reply)
            assert "Name or service not known" in refused(reply)
        assert len(asked) == 1
        refused(await calls.send(PARAMS))
        assert len(asked) == 2


async def test_a_host_without_addresses_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that is broken is no defect of nightmill."""
    resolve(monkeypatch, {"none.test": []})
    assert "none.test" in refused(await sent("http://none.test"))


async def test_addresses_that_all_refuse_are_named_and_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server may have moved; the machine may have started a moment ago."""
    names = {"moved.test": ["127.0.0.1", "::1"]}
    asked = resolve(monkeypatch, names)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", _young(asyncio.get_running_loop()))
    async with serving(answers()) as server:
        names["moved.test"] = ["127.0.0.2", "127.0.0.3"]
        async with client(f"http://moved.test:{server.port}") as calls:
            detail = refused(await calls.send(PARAMS))
            assert f"cannot connect to moved.test:{server.port}" in detail
            assert "127.0.0.2" in detail
            assert "127.0.0.3" in detail
            names["moved.test"] = ["127.0.0.1"]
            assert isinstance(await calls.send(PARAMS), Reply)
            assert len(asked) == 2


def _young(loop: asyncio.AbstractEventLoop) -> object:
    real, began = loop.time, loop.time() - 1
    return lambda: real() - began


async def test_a_dot_after_the_host_is_for_the_lookup(
    monkeypatch: pytest.MonkeyPatch, trusted: Path
) -> None:
    """It saves the lookups in each search domain; certificates and Host have none."""
    asked = resolve(monkeypatch, {"api.test.": ["127.0.0.1"]})
    heads: list[str] = []

    async def serve(reader: Reader, writer: Writer) -> None:
        heads.append(await head_of(reader))
        writer.write(whole())
        await writer.drain()

    async with serving(serve, context(trusted)) as server:
        assert isinstance(await sent(f"https://api.test.:{server.port}"), Reply)
        assert f"Host: api.test:{server.port}\r\n" in heads[0]
    assert asked == ["api.test."]


async def test_calls_that_begin_at_once_ask_for_the_addresses_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver with 1,000 questions at once loses some of them."""
    asked = resolve(monkeypatch, {"api.test": ["127.0.0.1"]})
    together = 1_000
    async with serving(answers()) as server:
        async with client(f"http://api.test:{server.port}") as calls:
            replies = await asyncio.gather(*(calls.send(PARAMS) for _ in range(together)))
        assert all(isinstance(reply, Reply) for reply in replies)
        assert len(asked) == 1
        assert len(server.writers) == together


async def test_connections_are_spread_over_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with several addresses is the load balancer of some gateways."""
    resolve(monkeypatch, {"api.test": ["127.0.0.1", "127.0.0.2"]})
    async with serving(answers(), host="127.0.0.1") as server:
        other = Server(answers())
        async with await asyncio.start_server(other.serve, "127.0.0.2", server.port):
            async with client(f"http://api.test:{server.port}") as calls:
                replies = await asyncio.gather(*(calls.send(PARAMS) for _ in range(10)))
            assert all(isinstance(reply, Reply) for reply in replies)
            assert len(server.writers) == len(other.writers) == 5
            await other.end()


@pytest.mark.parametrize("known", [True, False])
async def test_a_lookup_slower_than_the_time_limit_is_made_once(
    monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """Each lookup holds a thread, and the last one's answer serves the next call."""
    asked: list[str] = []
    answered = asyncio.Event()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        await answered.wait()
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with serving(answers()) as server:
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with client(f"http://api.test:{server.port}", connect_timeout_s=0.05) as calls:
            for _ in range(3):
                assert "no connection within 0.05 s" in refused(await calls.send(PARAMS))
            assert asked == ["api.test"]
            answered.set()
            await until(lambda: calls._pool._opener._asking is None)
            monkeypatch.setattr(loop, "getaddrinfo", real if known else getaddrinfo)
            calls._pool._opener._timeout_s = 60
            reply = await calls.send(PARAMS)
            assert isinstance(reply, Reply) if known else "service not known" in refused(reply)
            assert len(asked) == (1 if known else 2)


async def test_a_connection_that_fails_at_once_leaves_the_addresses_to_those_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They waited for the same lookup. Without addresses their error would not say why."""
    resolve(monkeypatch, {"api.test": ["127.0.0.1"]})
    opener = Opener(URL("http://api.test"), None, 5)

    async def failing() -> int:
        found = await opener._addresses_of(opener._first)
        opener._addresses = ()
        return len(found)

    assert min(await asyncio.gather(failing(), failing())) == 1


async def test_a_server_that_accepts_nothing_ends_at_the_time() -> None:
    """CONNECT_TIMEOUT_S is for the connection."""
    with full() as port:
        detail = refused(await sent(f"http://127.0.0.1:{port}", connect_timeout_s=0.05))
    assert detail == f"cannot connect to 127.0.0.1:{port}: no connection within 0.05 s"


async def test_a_handshake_that_does_not_end_ends_at_the_time(trusted: Path) -> None:
    """CONNECT_TIMEOUT_S is for the TLS handshake too."""
    del trusted
    async with serving(silent) as server:
        detail = refused(await sent(f"https://localhost:{server.port}", connect_timeout_s=0.05))
    assert detail == f"cannot connect to localhost:{server.port}: no connection within 0.05 s"


async def test_a_port_that_nobody_listens_at_is_named() -> None:
    """Nothing waits for the time limit."""
    port = free_port()
    assert f"127.0.0.1:{port}" in refused(await sent(f"http://127.0.0.1:{port}"))
