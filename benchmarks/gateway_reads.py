"""What clients of the gateway read from PostgreSQL: results of a batch, and a page of batches."""

from __future__ import annotations

import asyncio
import json
import time
from statistics import median
from typing import Final

from benchmarks.gateway_process import PATH, Gateway, gateway
from benchmarks.server import Server, server
from benchmarks.work import request
from nightmill.queue import keys
from nightmill.records.job import now_ms
from nightmill.records.message import Message
from nightmill.records.message_batch import MessageBatch, StoredRequest, new_id
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.store import ResultStore
from nightmill.store.message_batches import MessageBatches
from tests.postgres import postgres

PAGE: Final = 1_000
DAY_MS: Final = 86_400_000
ROWS_AT_ONCE: Final = 1_000
TEXT: Final = "word " * 100
MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-6",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 100},
}


async def main() -> None:
    """Print both for 100,000 results: `python -m benchmarks.gateway_reads`."""
    async with server() as db:
        for row in await reads(db, 100_000):
            print(*row, sep=" | ")


async def reads(db: Server, count: int) -> list[tuple[str, str, str]]:
    """Read `count` results of one batch, then a page of batches that have not ended."""
    with postgres() as store:
        async with gateway(db, NIGHTMILL_STORE_URL=store.url) as door:
            rate, size = await _results(door, await _ended(store.url, count))
            fed, listed = await _listed(door, db, store.url)
    return [
        (
            f"results on PostgreSQL, {count:,} of {size:,.0f} bytes",
            f"{rate:,.0f} lines/s",
            "20,000 lines/s",
        ),
        (f"{PAGE:,} batches of one request each, until all are fed", f"{fed:.1f} s", "none"),
        (f"a page of {PAGE:,} batches that have not ended", f"{listed:.0f} ms", "none"),
    ]


async def _ended(url: str, count: int) -> str:
    """Store a batch that has ended, with the Messages of its requests; return its id."""
    now = now_ms()
    batch = new_id(now)
    new = MessageBatch(
        batch=batch,
        tenant="default",
        total=count,
        created_at=now,
        expires_at=now + DAY_MS,
        ended_at=now,
        succeeded=count,
        errored=0,
        canceled=0,
        expired=0,
    )
    message = Message(MESSAGE)
    async with ResultStore.open(url) as store:
        await MessageBatches(store).add(new, named_since=batch)
        for first in range(0, count, ROWS_AT_ONCE):
            rows = [
                Result(
                    job_id=f"{batch}:c{seq}",
                    status=JobState.SUCCEEDED,
                    batch=batch,
                    custom_id=f"c{seq}",
                    seq=seq,
                    message=message,
                    finished_at=now,
                )
                for seq in range(first + 1, min(first + ROWS_AT_ONCE, count) + 1)
            ]
            await store.record_all(rows)
    return batch


async def _results(door: Gateway, batch: str) -> tuple[float, float]:
    """Return the lines a second, and the bytes of a line."""
    began = time.perf_counter()
    found = await door.ask("GET", f"{PATH}/{batch}/results")
    lines = found.count(b"\n")
    return lines / (time.perf_counter() - began), len(found) / lines


async def _listed(door: Gateway, db: Server, store_url: str) -> tuple[float, float]:
    """Return until when new batches are fed, s from the first of them; and the page's time, ms."""
    now, first = now_ms(), time.perf_counter()
    async with ResultStore.open(store_url) as store:
        batches = MessageBatches(store)
        for number in range(PAGE):
            name = new_id(now + number)
            body = json.dumps(request(number, 100)).encode()
            one = StoredRequest(seq=1, custom_id="a", model="claude-opus-4-6", body=body)
            await batches.stage(name, [one])
            new = MessageBatch(
                batch=name, tenant="default", total=1, created_at=now, expires_at=now + DAY_MS
            )
            await batches.add(new, named_since=name)
    while await db.redis.execute_command("SCARD", keys.BATCHES) < PAGE:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    fed = time.perf_counter() - first
    times = []
    for _ in range(5):
        began = time.perf_counter()
        found = json.loads(await door.ask("GET", f"{PATH}?limit={PAGE}"))
        times.append((time.perf_counter() - began) * 1000)
        if len(found["data"]) != PAGE:
            raise RuntimeError(f"the page has {len(found['data'])} batches")
    return fed, median(times)


if __name__ == "__main__":
    asyncio.run(main())
