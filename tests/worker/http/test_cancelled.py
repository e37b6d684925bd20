"""A call that is cancelled, or out of time, leaves nothing open in any phase."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from nightmill_worker.http.connection import Connection
from nightmill_worker.http.errors import HttpError
from nightmill_worker.http.opening import Opener
from nightmill_worker.http.pool import Pool
from nightmill_worker.http.proxy import proxy_for
from tests.rig import until
from tests.worker.http.servers import (
    WAYS,
    Reader,
    Way,
    Writer,
    client,
    head_of,
    reached,
)
from tests.worker.messages.endpoint import PARAMS


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_can_be_cancelled_at_each_step_of_the_opening(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Steps are rounds of the loop: the fixture sees what is left open."""
    async with reached(way, trusted, monkeypatch) as (url, _, _):
        opener = Opener(URL(url), proxy_for(URL(url)), 5)
        done, steps = False, 0
        while not done:
            pool = Pool(opener)
            taking = asyncio.create_task(pool.take())
            for _ in range(steps):
                await asyncio.sleep(0)
            steps += 1
            taking.cancel()
            with suppress(asyncio.CancelledError):
                connection = await taking
                done = True
                pool.give_back(connection)
            pool.close()
        await until(lambda: not pool._all)
    assert steps > 3


@pytest.mark.parametrize("way", WAYS)
async def test_a_time_limit_can_end_each_step_of_the_opening(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """Limits from none to enough: it ends as an HttpError or opens."""
    async with reached(way, trusted, monkeypatch) as (url, _, _):
        opened = 0
        for step in range(60):
            limit_s = step * 0.0002 if step < 59 else 60
            opener = Opener(URL(url), proxy_for(URL(url)), limit_s)
            lost: list[Connection] = []
            try:
                connection = await opener.open(lost.append)
            except HttpError as error:
                assert error.kind == "connection_error"  # noqa: PT017 - most steps raise it
            else:
                opened += 1
                connection.end()
        assert opened


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("phase", ["sending", "waiting", "reading"])
async def test_a_call_can_be_cancelled_in_each_phase(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, way: Way, phase: str
) -> None:
    """Sending: 30 MB to a server that reads none of it."""
    arrived = asyncio.Event()

    async def serve(reader: Reader, writer: Writer) -> None:
        await head_of(reader)
        if phase == "reading":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        arrived.set()
        await asyncio.Event().wait()

    body = PARAMS if phase != "sending" else PARAMS.replace(b"hi", b"x" * (30 << 20))
    async with (
        reached(way, trusted, monkeypatch, serve) as (url, _, _),
        client(url) as calls,
    ):
        for _ in range(2):
            arrived.clear()
            call = asyncio.create_task(calls.send(body))
            await arrived.wait()
            (connection,) = calls._pool._all
            if phase == "sending":
                await until(lambda: not connection._writing)  # noqa: B023 - used at once
            elif phase == "reading":
                await until(lambda: connection._answer and connection._answer.status)  # noqa: B023
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not calls._pool._all)
            assert not calls._pool._idle
