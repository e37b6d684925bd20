"""Stock arq, used as its documentation shows: one function that posts, max_jobs slots, pickle."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.loops import post, session
from benchmarks.usage import Meter
from benchmarks.work import Work, requests

AT_ONCE = 50
"""Calls of enqueue_job at once: arq has no call for many jobs."""


async def run_jobs(work: Work, meter: Meter) -> None:
    """Run arq's own Worker until its queue is empty; without end when `jobs` is 0."""
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


async def enqueue(work: Work, meter: Meter) -> None:
    """Enqueue all prompts, AT_ONCE jobs at a time."""
    prompts = iter(requests(work))
    pool = await create_pool(RedisSettings.from_dsn(work.redis_url))

    async def enqueue_rest() -> None:
        for params in prompts:
            await pool.enqueue_job("call", params)

    await meter.started()
    await asyncio.gather(*(enqueue_rest() for _ in range(AT_ONCE)))
    await pool.aclose()
