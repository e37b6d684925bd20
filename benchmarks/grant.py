"""How long a claim takes, from the request to the granted jobs, in a busy fleet."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median, quantiles
from typing import Final

import msgspec
import uvloop
from redis.asyncio import Redis

from benchmarks.server import server
from benchmarks.table import Table
from benchmarks.work import request
from nightmill import Producer
from nightmill.queue import wire
from nightmill_worker.fleet.claims import CLAIM_GAP_S
from nightmill_worker.queue.records import Ask, Finish, GrantedJob, Settlement
from nightmill_worker.queue.scripts import Scripts

WORKERS: Final = 4
LEASE_MS: Final = 30_000
FLEETS: Final = {"1,000/s": 7, "3,000/s": 19, "5,000/s": 32}
"""Jobs a second of the fleet -> jobs that each worker asks for every CLAIM_GAP_S."""
MODEL: Final = "claude-opus-4-6"
OPEN: Final = (
    b'{"window":100000,"reserves":false,"pause":0.25,"breaker":"closed","round":0,"gates":'
    b'{"pace":{"rate":1e6,"capacity":1e6,"reserve":0,"mirror":false}}}'
)


async def run_grant(*, quick: bool) -> Table:
    """Let workers claim, settle and finish jobs; measure their claims."""
    claims = 300 if quick else 1_000
    found = {fleet: await _busy(want, claims) for fleet, want in FLEETS.items()}
    return Table(
        title="grant",
        what=f"Claims of {WORKERS} worker processes, between their settlements and finishes.",
        heads=("fleet asks for", "claims", "jobs", "jobs/s", "p50 ms", "p99 ms", "bar ms"),
        rows=tuple(
            (
                fleet,
                f"{len(took):,}",
                f"{jobs:,}",
                f"{jobs / seconds:,.0f}",
                f"{median(took):.2f}",
                f"{quantiles(took, n=100)[-1]:.2f}",
                "5",
            )
            for fleet, (took, jobs, seconds) in found.items()
        ),
    )


async def _busy(want: int, claims: int) -> tuple[list[float], int, float]:
    """Return the time of each claim, ms, the number of jobs granted, and the whole time, s."""
    spawn = multiprocessing.get_context("spawn")
    async with server() as db:
        jobs = WORKERS * claims * want
        async with Producer(db.url) as producer:
            await producer.enqueue_many([request(n, 300) for n in range(jobs)], batch="busy")
        with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
            loop = asyncio.get_running_loop()
            workers = (
                loop.run_in_executor(pool, _process, db.url, f"w{n}", want, claims)
                for n in range(WORKERS)
            )
            found = await asyncio.gather(*workers)
        took = [ms for each, _ in found for ms in each]
        return took, jobs, max(seconds for _, seconds in found)


def _process(url: str, name: str, want: int, claims: int) -> tuple[list[float], float]:
    began = time.perf_counter()
    return uvloop.run(_work(url, name, want, claims)), time.perf_counter() - began


async def _work(url: str, name: str, want: int, claims: int) -> list[float]:
    took = []
    async with Redis.from_url(url) as redis:
        scripts = Scripts(
            redis, account="l", orders=OPEN, lease_ms=LEASE_MS, canary=0, emit=lambda _event: None
        )
        for seq in range(1, claims + 1):
            began = time.perf_counter()
            granted = (await scripts.claim(_ask(name, seq, want))).jobs
            took.append(1000 * (time.perf_counter() - began))
            await scripts.settle([_settled(job) for job in granted])
            await scripts.finish([_finished(job) for job in granted])
            await asyncio.sleep(CLAIM_GAP_S - (time.perf_counter() - began))
    return took


def _ask(name: str, seq: int, want: int) -> Ask:
    return Ask(
        worker=name,
        seq=seq,
        account="l",
        want=want,
        lease_ms=LEASE_MS,
        functions={wire.FUNCTION: True},
        model=MODEL,
    )


def _settled(job: GrantedJob) -> Settlement:
    return Settlement(
        token=job.token,
        model=job.model,
        outcome="ok",
        reservation=msgspec.Raw(job.reservation),
        latency_ms=1000,
        bytes=len(job.payload),
        input=100,
        output=50,
    )


def _finished(job: GrantedJob) -> Finish:
    return Finish(
        id=job.id,
        token=job.token,
        queue=job.queue,
        status="succeeded",
        again=0,
        input=100,
        output=50,
        cost=0,
        fault="",
        kept=b"{}",
    )
