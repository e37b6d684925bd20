"""Faults of the endpoint: outages of several kinds, 1 % errors, a stopped account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.queue.batches import Batches
from nightmill.reports.lanes import read_lanes
from tests.chaos.fleet import SLOTS, running_fleet
from tests.chaos.proxy import linked
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.fleet import Fleet
    from tests.chaos.proxy import Proxy

    Change = Callable[[Fleet, Proxy], Awaitable[None]]

LATENCY_S: Final = 0.3
READ_TIMEOUT_S: Final = 1.5
WASTED: Final = 100
"""Calls that an outage may waste beyond those in flight when it begins."""
OPENS_S: Final = 60.0
"""Time after its begin in which the breaker must open."""
BACK_S: Final = 40.0
"""Time after the outage in which the old throughput must return."""
SPAN_S: Final = 1.0
"""Window over which answers per second are counted."""
WAITING: Final = 150
"""Jobs that are always queued while a fleet is kept busy."""
STREAMED: Final = {"max_tokens": 20_000}


class Busy:
    """Feeds jobs as fast as they are done, and records whether a breaker opened."""

    def __init__(self, fleet: Fleet, fields: dict[str, object]) -> None:
        """Take the fleet, and further fields of the requests."""
        self._fleet = fleet
        self._fields = fields
        self.fed = 0
        self.opened = False
        self.over = False

    async def run(self) -> None:
        """Feed until `over` is set. Cancelling would lose the number of jobs fed."""
        while not self.over:
            if self.fed - await self._fleet.rows() < WAITING:
                await self._fleet.feed(range(self.fed, self.fed + WAITING), fields=self._fields)
                self.fed += WAITING
            lanes = await read_lanes(self._fleet.redis)
            self.opened |= any(lane.orders.breaker != "closed" for lane in lanes)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def busy(fleet: Fleet, **fields: object) -> AsyncIterator[Busy]:
    """Keep a fleet busy for the duration of a block."""
    flow = Busy(fleet, fields)
    running = asyncio.create_task(flow.run())
    try:
        yield flow
    finally:
        flow.over = True
        await running


async def _outage(
    what: str, break_it: Change, repair: Change, folder: Path, scale: int, **fields: object
) -> Report:
    """Break the endpoint of a busy fleet for a while; compare the throughput before and after."""
    # It lasts until the breaker opens, and `more_s` seconds more.
    settled_s, more_s = (1.0, 0.5) if scale == 1 else (10.0, 60.0)
    timeouts = {"read_timeout_s": READ_TIMEOUT_S, "connect_timeout_s": 1.0}
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(
            running_fleet(folder, latency_s=LATENCY_S, **timeouts)
        )
        link, url = await stack.enter_async_context(linked(fleet.sim_url))
        async with busy(fleet, **fields) as flow:
            await fleet.start_workers(2, NIGHTMILL_BASE_URL=url)
            await until(lambda: fleet.is_calling(SLOTS))
            if scale > 1:
                await asyncio.sleep(settled_s)
            before = await throughput(fleet, settled_s)
            at_onset = await fleet.in_flight()
            broken_at = time.monotonic()
            await break_it(fleet, link)
            with suppress(TimeoutError):  # the row says so
                await until(lambda: flow.opened, within=OPENS_S)
            await asyncio.sleep(more_s)
            await repair(fleet, link)
            lasted_s = time.monotonic() - broken_at
            recovery_s = await until_throughput(fleet, 0.95 * before)
        await fleet.wait_for_rows(flow.fed)
        allowed = at_onset + WASTED
        report = await judge(fleet, f"{what} for {lasted_s:.1f} s", flow.fed, extra=allowed)
        report.recovery_s = recovery_s
        report.expect("the breaker opens", kept=flow.opened)
        report.expect(f"back to 95 % of {before:.0f}/s <= 40 s", kept=recovery_s <= BACK_S)
        tries = sum(row.attempt_count for row in await fleet.results()) - flow.fed
        report.expect(f"<= {allowed} failed attempts: {tries}", kept=tries <= allowed)
        return report


async def _answers(fleet: Fleet) -> int:
    return int((await fleet.stats())["totals"]["answered"])


async def throughput(fleet: Fleet, seconds: float) -> float:
    """Return the answers per second over the next `seconds`."""
    began, before = time.monotonic(), await _answers(fleet)
    await asyncio.sleep(seconds)
    return (await _answers(fleet) - before) / (time.monotonic() - began)


async def until_throughput(fleet: Fleet, wanted: float) -> float:
    """Return the seconds until one window of SPAN_S had at least `wanted` answers per second."""
    began = time.monotonic()
    samples = deque([(began, await _answers(fleet))])
    while (now := time.monotonic()) - began < 2 * BACK_S:
        samples.append((now, await _answers(fleet)))
        while now - samples[1][0] >= SPAN_S:
            samples.popleft()
        since, before = samples[0]
        if now - since >= SPAN_S and (samples[-1][1] - before) / (now - since) >= wanted:
            break
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def _configured(**changes: object) -> Change:
    async def change(fleet: Fleet, _link: Proxy) -> None:
        await fleet.configure(**changes)

    return change


async def storm(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Answer every call with 529."""
    break_it, repair = _configured(down=529), _configured(down=None)
    return await _outage("529s", break_it, repair, folder, scale)


async def stalls(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Accept calls and never answer."""
    break_it, repair = _configured(stall=1.0), _configured(stall=0.0)
    return await _outage("stalled calls", break_it, repair, folder, scale)


async def stalled_streams(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Stop every stream in the middle."""
    break_it, repair = _configured(stall=1.0), _configured(stall=0.0)
    return await _outage("stalled streams", break_it, repair, folder, scale, **STREAMED)


async def cut_bodies(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Cut every body in half."""
    break_it, repair = _configured(truncate=1.0), _configured(truncate=0.0)
    return await _outage("truncated bodies", break_it, repair, folder, scale)


async def stream_errors(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Send an error event in every stream, after the 200."""
    break_it, repair = _configured(sse_error=1.0), _configured(sse_error=0.0)
    return await _outage("SSE errors after 200", break_it, repair, folder, scale, **STREAMED)


async def wrong_type(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Answer every call with 200 and an HTML page, as a proxy does."""
    break_it, repair = _configured(wrong_type=1.0), _configured(wrong_type=0.0)
    return await _outage("HTML instead of JSON", break_it, repair, folder, scale)


async def half_open(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lose every connection to the endpoint without FIN or RST, then restore the network."""

    async def break_it(_fleet: Fleet, link: Proxy) -> None:
        link.lose()

    async def repair(_fleet: Fleet, link: Proxy) -> None:
        link.restore()

    return await _outage("half-open sockets", break_it, repair, folder, scale)


async def one_percent(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Fail 1 % of the calls: they are retried, and the breaker stays closed."""
    async with running_fleet(folder, latency_s=LATENCY_S) as fleet:
        await fleet.configure(faults=[{"status": 529, "share": 0.01}])
        async with busy(fleet) as flow:
            await fleet.start_workers(2)
            await until(partial(fleet.has_rows, 400 * scale), within=60 * scale)
        await fleet.wait_for_rows(flow.fed)
        failed = int((await fleet.stats())["statuses"].get("529", 0))
        report = await judge(fleet, "529s for 1 % of the calls", flow.fed, extra=failed)
        report.expect("some calls fail", kept=failed > 0)
        report.expect("the breaker stays closed", kept=not flow.opened)
        return report


async def wrong_key(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Refuse the key: every call is answered 401."""
    return await _refused(
        "401s in mid-run", {"auth": "another"}, {"auth": None}, folder, scale, more=0
    )


async def no_credit(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Exhaust the credit: every call is answered with the 400 for it."""
    return await _refused(
        "credit exhausted in mid-run",
        {"credit_exhausted": True},
        {"credit_exhausted": False},
        folder,
        scale,
        more=2,
    )


async def _refused(  # noqa: PLR0913 - what is refused, what is accepted, how many trials
    what: str,
    refused: dict[str, object],
    accepted: dict[str, object],
    folder: Path,
    scale: int,
    *,
    more: int,
) -> Report:
    """Refuse the account, resume twice too early, accept it, resume: no job fails, few calls.

    `more` are the trials before it stops.
    """
    jobs = 300 * scale
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(3)
        await until(lambda: fleet.has_rows(jobs // 4))
        at_onset = await fleet.stats()
        await fleet.configure(**refused)
        calls = await fleet.quiet()
        after = calls - at_onset["totals"]["calls"]
        trials = []
        for _ in range(2):
            await _resume(fleet)
            await until(partial(_has_called, fleet, calls + 1))
            trials.append(await fleet.quiet() - calls)
            calls += trials[-1]
        await fleet.configure(**accepted)
        accepted_at = time.monotonic()
        await _resume(fleet)
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, what, jobs, extra=at_onset["in_flight"] + 2 + more)
        report.recovery_s = time.monotonic() - accepted_at
        in_flight = at_onset["in_flight"]
        kept = after <= in_flight + more
        report.expect(f"calls after it {after} <= in flight {in_flight} + {more} trials", kept=kept)
        report.expect(f"one trial call after each resume: {trials}", kept=trials == [1, 1])
        return report


async def _resume(fleet: Fleet) -> None:
    """Do as `nightmill resume` does."""
    assert sum(await Batches(fleet.redis).try_all_again()) == 1


async def _has_called(fleet: Fleet, count: int) -> bool:
    return bool((await fleet.stats())["totals"]["calls"] >= count)
