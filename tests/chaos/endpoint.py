"""Faults of the endpoint: an outage of every kind, one call in a hundred, a closed account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.queue.batches import Batches
from nightmill.reports.lanes import read_lanes
from tests.chaos.mill import SLOTS, milling
from tests.chaos.proxy import linked
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.mill import Mill
    from tests.chaos.proxy import Proxy

    Hurt = Callable[[Mill, Proxy], Awaitable[None]]

LATENCY_S: Final = 0.3
READ_TIMEOUT_S: Final = 1.5
WASTED: Final = 60
"""Calls that an outage may cost beside those in flight at its onset."""
BACK_S: Final = 40.0
SPAN_S: Final = 1.0
"""The time over which answers a second are counted."""
WAITING: Final = 150
"""Jobs that wait at least while a mill is kept busy."""
STREAMED: Final = {"max_tokens": 20_000}


class Busy:
    """Jobs are fed as they are worked off; notes whether a breaker opened meanwhile."""

    def __init__(self, mill: Mill, fields: dict[str, object]) -> None:
        """Take the mill, and what its requests say besides a message."""
        self._mill = mill
        self._fields = fields
        self.fed = 0
        self.opened = False
        self.over = False

    async def run(self) -> None:
        """Feed and watch until it is over; cut short, it would not know what was fed."""
        while not self.over:
            if self.fed - await self._mill.rows() < WAITING:
                await self._mill.feed(range(self.fed, self.fed + WAITING), fields=self._fields)
                self.fed += WAITING
            lanes = await read_lanes(self._mill.redis)
            self.opened |= any(lane.orders.breaker != "closed" for lane in lanes)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def busy(mill: Mill, **fields: object) -> AsyncIterator[Busy]:
    """Keep a mill busy for the length of a block."""
    flow = Busy(mill, fields)
    running = asyncio.create_task(flow.run())
    try:
        yield flow
    finally:
        flow.over = True
        await running


async def _outage(
    what: str, hurt: Hurt, heal: Hurt, folder: Path, scale: int, **fields: object
) -> Report:
    """Hurt the endpoint of a busy mill for a while; compare its pace before and after."""
    settled_s, seconds = (1, 2) if scale == 1 else (10, 60)
    timeouts = {"read_timeout_s": READ_TIMEOUT_S, "connect_timeout_s": 1.0}
    async with AsyncExitStack() as stack:
        mill = await stack.enter_async_context(milling(folder, latency_s=LATENCY_S, **timeouts))
        link, url = await stack.enter_async_context(linked(mill.sim_url))
        async with busy(mill, **fields) as flow:
            await mill.start_workers(2, NIGHTMILL_BASE_URL=url)
            await until(lambda: mill.is_calling(SLOTS))
            await asyncio.sleep(settled_s)
            before = await _pace(mill, settled_s)
            at_onset = await mill.in_flight()
            await hurt(mill, link)
            await asyncio.sleep(seconds)
            await heal(mill, link)
            recovery_s = await _back_to(mill, 0.95 * before)
        await mill.wait_for_rows(flow.fed)
        allowed = at_onset + WASTED
        report = await judge(mill, f"{what} for {seconds} s", flow.fed, extra=allowed)
        report.recovery_s = recovery_s
        report.expect("the breaker opens", kept=flow.opened)
        report.expect(f"back to 95 % of {before:.0f}/s <= 40 s", kept=recovery_s <= BACK_S)
        tries = sum(row.attempt_count for row in await mill.results()) - flow.fed
        report.expect(f"<= {allowed} tries for nothing: {tries}", kept=tries <= allowed)
        return report


async def _answered(mill: Mill) -> int:
    return int((await mill.stats())["totals"]["answered"])


async def _pace(mill: Mill, seconds: float) -> float:
    """Return the answers a second over the next `seconds`."""
    began, before = time.monotonic(), await _answered(mill)
    await asyncio.sleep(seconds)
    return (await _answered(mill) - before) / (time.monotonic() - began)


async def _back_to(mill: Mill, pace: float) -> float:
    """Return after how many seconds SPAN_S passed at that many answers a second, or more."""
    began = time.monotonic()
    seen = deque([(began, await _answered(mill))])
    while (now := time.monotonic()) - began < 2 * BACK_S:
        seen.append((now, await _answered(mill)))
        while now - seen[1][0] >= SPAN_S:
            seen.popleft()
        since, before = seen[0]
        if now - since >= SPAN_S and (seen[-1][1] - before) / (now - since) >= pace:
            break
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def _configured(**changes: object) -> Hurt:
    async def hurt(mill: Mill, _link: Proxy) -> None:
        await mill.configure(**changes)

    return hurt


async def storm(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Every call is answered 529."""
    hurt, heal = _configured(down=529), _configured(down=None)
    return await _outage("529s", hurt, heal, folder, scale)


async def stalls(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Take calls and never answer them."""
    hurt, heal = _configured(stall=1.0), _configured(stall=0.0)
    return await _outage("stalled calls", hurt, heal, folder, scale)


async def stalled_streams(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Streams stop in the middle."""
    hurt, heal = _configured(stall=1.0), _configured(stall=0.0)
    return await _outage("stalled streams", hurt, heal, folder, scale, **STREAMED)


async def cut_bodies(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Bodies end half way."""
    hurt, heal = _configured(truncate=1.0), _configured(truncate=0.0)
    return await _outage("truncated bodies", hurt, heal, folder, scale)


async def stream_errors(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Send an error event after the 200 of every stream."""
    hurt, heal = _configured(sse_error=1.0), _configured(sse_error=0.0)
    return await _outage("SSE errors after 200", hurt, heal, folder, scale, **STREAMED)


async def wrong_type(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Send an HTML page with every 200, as a proxy does."""
    hurt, heal = _configured(wrong_type=1.0), _configured(wrong_type=0.0)
    return await _outage("HTML instead of JSON", hurt, heal, folder, scale)


async def half_open(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lose the endpoint's machine, without a word on any connection, and get it back."""

    async def hurt(_mill: Mill, link: Proxy) -> None:
        link.strand()

    async def heal(_mill: Mill, link: Proxy) -> None:
        link.mend()

    return await _outage("half-open sockets", hurt, heal, folder, scale)


async def one_percent(folder: Path, _rng: random.Random, scale: int) -> Report:
    """One call in a hundred fails: it is tried again, and the breaker stays closed."""
    async with milling(folder, latency_s=LATENCY_S) as mill:
        await mill.configure(faults=[{"status": 529, "share": 0.01}])
        async with busy(mill) as flow:
            await mill.start_workers(2)
            await until(partial(mill.has_rows, 400 * scale), within=60 * scale)
        await mill.wait_for_rows(flow.fed)
        failed = int((await mill.stats())["statuses"].get("529", 0))
        report = await judge(mill, "529s for 1 % of the calls", flow.fed, extra=failed)
        report.expect("some failed", kept=failed > 0)
        report.expect("the breaker stays closed", kept=not flow.opened)
        return report


async def wrong_key(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Take the key no more: every call is a 401."""
    return await _closed("401s in mid-run", {"auth": "another"}, {"auth": None}, folder, scale)


async def no_credit(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Use up the credit: every call is a 400 that says so."""
    return await _closed(
        "credit used up in mid-run",
        {"credit_exhausted": True},
        {"credit_exhausted": False},
        folder,
        scale,
    )


async def _closed(
    what: str, closed: dict[str, object], opened: dict[str, object], folder: Path, scale: int
) -> Report:
    """Close the account, resume too soon, open it, resume: no job fails, few calls are made."""
    jobs = 300 * scale
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(3)
        await until(lambda: mill.has_rows(jobs // 4))
        at_onset = await mill.stats()
        await mill.configure(**closed)
        calls = await mill.quiet()
        after = calls - at_onset["totals"]["calls"]
        trials = []
        for _ in range(2):
            await _resume(mill)
            await until(partial(_has_called, mill, calls + 1))
            trials.append(await mill.quiet() - calls)
            calls += trials[-1]
        await mill.configure(**opened)
        back = time.monotonic()
        await _resume(mill)
        await mill.wait_for_rows(jobs)
        report = await judge(mill, what, jobs, extra=at_onset["in_flight"] + 2)
        report.recovery_s = time.monotonic() - back
        kept = after <= at_onset["in_flight"]
        report.expect(f"calls after it {after} <= in flight {at_onset['in_flight']}", kept=kept)
        report.expect(f"one trial after each resume: {trials}", kept=trials == [1, 1])
        return report


async def _resume(mill: Mill) -> None:
    """Do as `nightmill resume` does."""
    batches = Batches(mill.redis)
    stopped = [
        name for name, line in (await batches.accounts()).items() if line["state"] == "stopped"
    ]
    assert len(stopped) == 1
    await batches.try_account_again(stopped[0])


async def _has_called(mill: Mill, count: int) -> bool:
    return bool((await mill.stats())["totals"]["calls"] >= count)
