"""The contenders without a queue: N coroutines in a loop, and gather with a semaphore."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
from yarl import URL

from benchmarks.usage import Meter
from benchmarks.work import HEADERS, Work, requests
from nightmill_worker.http.head import head_of, with_length
from nightmill_worker.http.opening import Opener
from nightmill_worker.http.pool import Pool

CONNECT_S = 10.0


async def bare(work: Work, meter: Meter) -> None:
    """Post from `slots` coroutines that share one iterator: the least that a client must do."""
    bodies = iter([msgspec.json.encode(request) for request in requests(work)])
    async with session() as client:

        async def slot() -> None:
            for body in bodies:
                await post(client, work, body)

        await meter.started()
        await asyncio.gather(*(slot() for _ in range(work.slots)))


async def own(work: Work, meter: Meter) -> None:
    """Post as `bare` does, over nightmill's connections instead of aiohttp's client."""
    bodies = iter([msgspec.json.encode(request) for request in requests(work)])
    url = URL(f"{work.base_url}/v1/messages")
    head = head_of(url, HEADERS, by_proxy=False)
    pool = Pool(Opener(url, None, CONNECT_S))

    async def slot() -> None:
        for body in bodies:
            connection = await pool.take()
            answer = await connection.request(with_length(head, body), body)
            while await answer.read():
                pass
            pool.give_back(connection)

    await meter.started()
    await asyncio.gather(*(slot() for _ in range(work.slots)))
    pool.close()


async def gather(work: Work, meter: Meter) -> None:
    """Start one task for every prompt; a semaphore lets `slots` of them call at once."""
    bodies = [msgspec.json.encode(request) for request in requests(work)]
    slots = asyncio.Semaphore(work.slots)
    async with session() as client:

        async def one(body: bytes) -> None:
            async with slots:
                await post(client, work, body)

        await meter.started()
        await asyncio.gather(*(one(body) for body in bodies))


def session() -> aiohttp.ClientSession:
    """Return a session without a limit on connections."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS)


async def post(client: aiohttp.ClientSession, work: Work, body: bytes) -> bytes:
    """Make one call and return the answer's body; raise for an error status."""
    async with client.post(f"{work.base_url}/v1/messages", data=body) as response:
        response.raise_for_status()
        return await response.read()
