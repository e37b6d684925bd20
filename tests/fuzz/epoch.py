"""One epoch of the fuzz run: a new fleet, odd values from outside beside good jobs, two workers.

Every epoch has its own seed. The first worker gets the odd payloads and half of the good jobs. It
is stopped, an odd spool file is put there, and the second worker gets the rest.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nightmill.queue import keys
from nightmill.queue.batches import Batches
from tests.chaos.fleet import running_fleet
from tests.fuzz import payloads, spool
from tests.fuzz.endpoint import serving
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from subprocess import Popen

    from nightmill.records.result import Result
    from tests.chaos.fleet import Fleet
    from tests.fuzz.endpoint import Endpoint
    from tests.fuzz.payloads import Planted

    Command = Callable[..., Awaitable[Any]]

GOOD: Final = "good"
ODD_ANSWERS: Final = "odd-answers"
LANES: Final = 24
"""Models of the jobs with odd answers: a long pause of one lane must not hold up the others."""
PATIENCE_S: Final = 60.0
ODD_S: Final = 5.0
"""Time for the odd jobs after the good ones; those that still wait then are cancelled."""
SETTINGS: Final[dict[str, Any]] = {
    "canary": 0,
    "grace_s": 10.0,
    "lease_s": 5.0,
    "job_timeout_s": 8.0,
    "read_timeout_s": 3.0,
    "max_attempts": 2,
    "outage_s": 0,
    "max_response_bytes": 8_000_000,
    "max_event_bytes": 1_000_000,
}
DEFECTS: Final = (b"Traceback", b'"event": "worker failed"', b'"event": "claims held"')


@dataclass
class Epoch:
    """What an epoch did; `problems` are broken invariants."""

    seed: str
    good: int = 0
    odd: int = 0
    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How the odd jobs ended."""
    problems: list[str] = field(default_factory=list)

    def expect(self, invariant: str, found: object) -> None:
        """Record the invariant as broken when there is anything against it."""
        if found:
            self.problems.append(f"{invariant}: {found!r:.600}")


async def run_epoch(seed: str, folder: Path, size: int) -> Epoch:
    """Run one epoch with `size` jobs of each kind, in an empty folder."""
    rng, epoch = random.Random(seed), Epoch(seed)
    async with (
        serving(rng) as (endpoint, url),
        running_fleet(folder, base_url=url, **SETTINGS) as fleet,
    ):
        resuming = asyncio.create_task(_resume_accounts(fleet))
        try:
            await _work(fleet, endpoint, rng, size, epoch)
        except TimeoutError:
            epoch.problems.append("the fleet did not start or stop")
        finally:
            resuming.cancel()
            [failure] = await asyncio.gather(resuming, return_exceptions=True)
            if not isinstance(failure, asyncio.CancelledError):
                epoch.expect("accounts can be resumed", failure)
            epoch.expect("the logs show no defect", await asyncio.to_thread(_defects, folder))
    return epoch


def _defects(folder: Path) -> list[bytes]:
    """Return the log lines that show a defect of the worker."""
    lines = [
        line for path in folder.glob("worker-*.log") for line in path.read_bytes().splitlines()
    ]
    return [line for line in lines if any(mark in line for mark in DEFECTS)]


async def _work(
    fleet: Fleet, endpoint: Endpoint, rng: random.Random, size: int, epoch: Epoch
) -> None:
    """Feed everything, stop the worker half way, wait for every job, then check."""
    planted = [payloads.planted(rng, number) for number in range(size)]
    await fleet.feed(range(size // 2), GOOD)
    for lane in range(LANES):
        fields = {"model": f"lane-{lane}", "stream": bool(lane % 2)}
        await fleet.feed(range(lane, size, LANES), ODD_ANSWERS, fields)
    await _plant(fleet, planted)
    first = fleet.start_worker()
    await _wait(fleet, first, size // 2, GOOD)
    if first.poll() is None:
        await fleet.end(first)
    spooled = spool.write_spool(fleet.folder / "spool", rng, size)
    await fleet.feed(range(size // 2, size), GOOD)
    second = fleet.start_worker()
    await _wait(fleet, second, size, GOOD)
    await _wait(fleet, second, len(spooled), spool.BATCH)
    await _end_odd_jobs(fleet, second)
    if second.poll() is None:
        await fleet.end(second)
    await _check(fleet, endpoint, planted, size, epoch)


async def _plant(fleet: Fleet, planted: list[Planted]) -> None:
    """Put payloads into Redis as a producer of another language would."""
    command: Command = fleet.redis.execute_command
    for each in planted:
        await command("SET", keys.PAYLOAD.encode() + each.id, each.payload)
        await command("ZADD", each.queue, int(time.time() * 1000), each.id)
        if each.queue != keys.QUEUE.encode():
            await command("SADD", keys.QUEUES, each.queue)
    await command("SADD", keys.BATCHES, payloads.BATCH)
    queue = keys.batch_queue(payloads.BATCH, payloads.MODEL)
    await command("SADD", keys.QUEUES_OF + payloads.BATCH, queue)


async def _wait(fleet: Fleet, worker: Popen[bytes], rows: int, batch: str) -> None:
    """Wait for rows, or until the worker has exited or time is up: the checks follow."""

    async def ended() -> bool:
        return worker.poll() is not None or await fleet.has_rows(rows, batch)

    with suppress(TimeoutError):
        await until(ended, within=PATIENCE_S)


async def _end_odd_jobs(fleet: Fleet, worker: Popen[bytes]) -> None:
    """Wait until no job is queued; cancel those whose lane pauses for long."""

    async def ended() -> bool:
        return worker.poll() is not None or not await _queued(fleet)

    for within in (ODD_S, PATIENCE_S):
        with suppress(TimeoutError):
            await until(ended, within=within)
            return
        for batch in (ODD_ANSWERS, payloads.BATCH):
            await Batches(fleet.redis).cancel(batch)


async def _queued(fleet: Fleet) -> list[bytes]:
    """Return the ids of all queued jobs."""
    command: Command = fleet.redis.execute_command
    queues = [keys.QUEUE.encode(), *await command("SMEMBERS", keys.QUEUES)]
    return [job_id for queue in queues for job_id in await command("ZRANGE", queue, 0, -1)]


async def _resume_accounts(fleet: Fleet) -> None:
    """Do what an operator does about an odd 401 or 403: resume the account, or the lane."""
    while True:
        await Batches(fleet.redis).try_all_again()
        await asyncio.sleep(0.1)


async def _foreign(fleet: Fleet, planted: list[Planted]) -> set[str]:
    """Return the ids of planted jobs that were set aside: by name, or with their whole queue."""
    foreign = set(await fleet.redis.execute_command("ZRANGE", keys.FOREIGN, 0, -1))
    aside = [each.id for each in planted if each.id in foreign or each.queue in foreign]
    return {job_id.decode(errors="replace") for job_id in aside}


async def _check(
    fleet: Fleet, endpoint: Endpoint, planted: list[Planted], size: int, epoch: Epoch
) -> None:
    """Check the invariants."""
    rows: dict[str, list[Result]] = {}
    assert fleet.store
    for batch in await fleet.store.batches():
        for row in await fleet.results(batch):
            rows.setdefault(row.job_id, []).append(row)
    good = [f"{GOOD}:{n}" for n in range(size)]
    answered = [f"{ODD_ANSWERS}:{n}" for n in range(size)]
    spooled = [f"{spool.BATCH}:{n}" for n in range(size)]
    kept = [each.id.decode() for each in planted if each.id.startswith(b"odd-")]
    epoch.good, epoch.odd = len(good) + len(spooled), len(answered) + len(planted) + size
    epoch.calls = endpoint.calls.total()
    epoch.outcomes.update(
        f"{row.error.type}" if row.error else row.status.value
        for job_id in (*answered, *kept)
        for row in rows.get(job_id, [])
    )
    epoch.expect("no worker exits by itself", fleet.crashed())
    epoch.expect("every exit code is 0", [code for code in fleet.exits if code])
    lost = [job_id for job_id in (*good, *spooled, *answered, *kept) if job_id not in rows]
    lost = sorted({*lost} - await _foreign(fleet, planted))
    epoch.expect("every job ends", lost)
    epoch.expect("every job ends once", [j for j, found in rows.items() if len(found) > 1])
    own = [row for job_id in good for row in rows.get(job_id, [])]
    swapped = [
        (row, row.error, row.text) for row in own if row.text != row.job_id.replace(":", " ")
    ]
    epoch.expect("every good job gets its own answer", swapped)
    prompts = [job_id.replace(":", " ") for job_id in good]
    calls = {prompt: endpoint.calls[prompt] for prompt in prompts}
    epoch.expect("every good job is called once", {p: n for p, n in calls.items() if n != 1})
    epoch.expect("no job stays in a queue", await _queued(fleet))
