"""Stock arq as its documentation shows it: a function that posts, max_jobs slots, pickle."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.loops import post, session
from benchmarks.meter import Meter
from benchmarks.work import Work, requests

AT_ONCE = 50
"""Calls of enqueue_job under way at once: arq has none for many jobs."""


async def work_off(work: Work, meter: Meter) -> None:
    """Run arq's own Worker until its queue is empty, or for ever when `jobs` is 0."""
    async with session() as client:

        async def call(_ctx: dict[Any, Any], params: dict[str, object]) -> bytes:
            return await post(client, work, msgspec.json.encode(params))

        worker = Worker(
            functions=[func(call, name="call")],  # type: ignore[arg-type] # arq wants *args
            redis_settings=RedisSettings.from_dsn(work.redis_url),
            max_jobs=work.slots,
            burst=work.jobs > 0,
            handle_signals=False,
        )
        await meter.started()
        await worker.async_run()
        await worker.close()


async def fill(work: Work, meter: Meter) -> None:
    """Enqueue everything, AT_ONCE jobs at a time."""
    prompts = iter(requests(work))
    pool = await create_pool(RedisSettings.from_dsn(work.redis_url))

    async def some() -> None:
        for params in prompts:
            await pool.enqueue_job("call", params)

    await meter.started()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    await pool.aclose()
