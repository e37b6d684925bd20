"""Filling the queues before a run, and following nightmill's batch during the run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.producers import settings_of
from benchmarks.server import Server
from benchmarks.stock import AT_ONCE
from benchmarks.work import BATCH, Work, request
from nightmill import Producer
from nightmill.queue import keys

CHUNK: Final = 10_000
"""Jobs whose receipts are in memory at once: the benchmark itself must use little memory."""
POLL_S: Final = 0.02
"""Wait between two looks at another process, seconds."""


async def fill_arq(db: Server, jobs: int, size: int) -> None:
    """Enqueue `jobs` prompts for stock arq."""
    pool = await create_pool(RedisSettings.from_dsn(db.url))
    numbers = iter(range(jobs))

    async def enqueue() -> None:
        for number in numbers:
            await pool.enqueue_job("call", request(number, size))

    await asyncio.gather(*(enqueue() for _ in range(AT_ONCE)))
    await pool.aclose()


def nightmill_work(url: str, db: Server, slots: int) -> Work:
    """Return the work of one nightmill worker; its prompts come from the queue."""
    return Work(
        contender="nightmill",
        slots=slots,
        jobs=0,
        size=300,
        base_url=url,
        redis_url=db.url,
        data_dir=str(db.folder),
    )


async def fill_nightmill(db: Server, work: Work, jobs: int) -> None:
    """Enqueue `jobs` prompts into the batch. It is paused until `resume`."""
    await pause(db)
    async with Producer(settings=settings_of(work)) as producer:
        for start in range(0, jobs, CHUNK):
            await producer.enqueue_many(
                _items(start, min(start + CHUNK, jobs), work.size), batch=BATCH
            )


def _items(start: int, end: int, size: int) -> Iterator[dict[str, object]]:
    for number in range(start, end):
        yield {"custom_id": f"line-{number}", "params": request(number, size)}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition()` is true. It is about other processes, so no event reports it."""
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


async def workers_ready(db: Server, processes: int) -> None:
    """Wait until `processes` workers have registered in Redis."""

    async def ready() -> bool:
        return int(await db.redis.execute_command("HLEN", keys.WORKERS)) >= processes

    await until(ready)


async def pause(db: Server) -> None:
    """Let the workers claim no job of the batch."""
    await db.redis.execute_command("HSET", keys.BATCH + BATCH, "flag", "paused")


async def resume(db: Server) -> None:
    """Let the workers claim jobs of the batch."""
    await db.redis.execute_command("HDEL", keys.BATCH + BATCH, "flag")


async def until_succeeded(db: Server, jobs: int) -> None:
    """Wait until `jobs` of the batch are stored and finished."""

    async def done() -> bool:
        return await succeeded(db) >= jobs

    await until(done)


async def succeeded(db: Server) -> int:
    """Return how many jobs of the batch are stored and finished."""
    return int(await db.redis.execute_command("HGET", keys.BATCH + BATCH, "succeeded") or 0)
