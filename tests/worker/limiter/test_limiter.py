"""The lane end to end: refusals, a stopped account, the breaker, the canary, caps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.stops import read_stops
from nightmill.records.state import JobState
from nightmill.reports.lanes import Look, read_lanes
from nightmill_worker.events import AccountStopped, LaneStopped
from nightmill_worker.simulator import SimulatorConfig
from nightmill_worker.simulator.config import make_config
from tests.rig import Rig, hello, rigged

QUICK = SimulatorConfig(latency_s=0.02)
WRONG_KEY = SimulatorConfig(latency_s=0.02, auth="another")
NO_CREDIT = SimulatorConfig(latency_s=0.02, credit_exhausted=True)
FORBIDDEN = SimulatorConfig(latency_s=0.02, down=403)
SPENT = SimulatorConfig(latency_s=0.02, spend_limit=True)
TRIALS = 2


async def enqueue(rig: Rig, jobs: int, *, first: int = 0, **fields: object) -> list[str]:
    """Enqueue `jobs` prompts in batch "b", numbered from `first`; return their ids."""
    numbers = range(first, first + jobs)
    requests = [{**hello(f"say {n}"), **fields, "custom_id": f"{n}"} for n in numbers]
    return [r.job_id for r in await rig.producer.enqueue_many(requests, batch="b")]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition on Redis holds. Redis has no event for it."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)


async def _stopped(rig: Rig) -> bool:
    """Whether no call of the batch can be made, and none is in flight."""
    stops = await read_stops(rig.redis, ["b"])
    return bool(stops.reason("b")) and not (await Batches(rig.redis).counts("b")).in_flight


async def _succeeded(batches: Batches, jobs: int) -> bool:
    return (await batches.counts("b")).succeeded == jobs


async def _paused(batches: Batches) -> bool:
    counts = await batches.counts("b")
    return counts.flag == "paused" and not counts.in_flight


async def _breaker_moved(rig: Rig) -> bool:
    return any(lane.orders.breaker != "closed" for lane in await read_lanes(rig.redis))


async def until_stopped(rig: Rig) -> None:
    """Wait until a worker has emitted a stop, and no job is in flight."""

    async def stopped() -> bool:
        accounts, lanes = rig.events_of(AccountStopped), rig.events_of(LaneStopped)
        return bool(accounts or lanes) and await _stopped(rig)

    await until(stopped)


async def test_a_refused_job_waits_and_loses_no_attempt(redis_url: str, tmp_path: Path) -> None:
    """A 429 concerns the lane. A job's attempts count what goes wrong with the job."""
    config = SimulatorConfig(latency_s=0.02, rpm=300, burst=3, headers=False)
    async with rigged(redis_url, tmp_path, config) as rig:
        ids = await enqueue(rig, 12)
        await rig.work_off()
        rows = [await rig.row(job_id) for job_id in ids]
        assert {row.status for row in rows} == {JobState.SUCCEEDED}
        assert {row.attempt_count for row in rows} == {1}
        refused = rig.sim.ledger.totals.refused
        assert refused == sum(row.snooze_count for row in rows) > 0


@pytest.mark.parametrize(
    "config", [WRONG_KEY, NO_CREDIT, FORBIDDEN, SPENT], ids=["401", "credit", "403", "429"]
)
async def test_an_account_without_access_or_credit_stops_and_loses_no_job(
    redis_url: str, tmp_path: Path, config: SimulatorConfig
) -> None:
    """A wrong key or missing credit must not fail all jobs one after the other."""
    async with rigged(redis_url, tmp_path, config) as rig:
        await enqueue(rig, 100)
        async with rig.working():
            await until_stopped(rig)
            calls = rig.calls()
            assert calls <= 16 + TRIALS, "not more than the first window, and the trials"
        counts = await Batches(rig.redis).counts("b")
        assert (counts.waiting, counts.terminal) == (100, 0)


@pytest.mark.parametrize(
    ("refused", "accepted"),
    [({"credit_exhausted": True}, {"credit_exhausted": False}), ({"auth": "x"}, {"auth": None})],
)
async def test_resume_sends_one_trial_and_its_answer_decides(
    redis_url: str, tmp_path: Path, refused: dict[str, object], accepted: dict[str, object]
) -> None:
    """One call is enough to find out whether the reason is gone."""
    config = make_config({"latency_s": 0.02, **refused})
    async with rigged(redis_url, tmp_path, config) as rig:
        await enqueue(rig, 40)
        batches = Batches(rig.redis)
        async with rig.working() as worker:
            await until_stopped(rig)
            calls = rig.calls()
            await batches.try_account_again(worker.account)
            await rig.sim.until(lambda: rig.calls() == calls + 1)
            await until(partial(_stopped, rig))
            assert rig.calls() == calls + 1
            rig.sim.configure(**accepted)
            await batches.try_account_again(worker.account)
            await until(partial(_succeeded, batches, 40))
        assert await batches.accounts() == {}
        assert (await batches.counts("b")).failed == 0


async def test_identical_failures_in_a_row_pause_their_batch(
    redis_url: str, tmp_path: Path
) -> None:
    """A batch whose jobs are all wrong should cost a few calls only."""
    async with rigged(redis_url, tmp_path, QUICK, fleet_max_in_flight=4) as rig:
        await enqueue(rig, 200, model="missing-model")
        batches = Batches(rig.redis)
        async with rig.working():
            await until(partial(_paused, batches))
            counts = await batches.counts("b")
            assert counts.flag == "paused"
            assert "20 jobs in a row failed alike: not_found_error" in counts.reason
            assert 20 <= counts.failed < 60
            assert counts.failed + counts.queued == 200


async def test_without_its_canary_a_batch_fails_to_its_end(redis_url: str, tmp_path: Path) -> None:
    """With canary 0 every job runs."""
    async with rigged(redis_url, tmp_path, QUICK, canary=0) as rig:
        await enqueue(rig, 60, model="missing-model")
        await rig.work_off()
        assert (await Batches(rig.redis).counts("b")).failed == 60


async def test_a_success_between_failures_resets_the_canary(redis_url: str, tmp_path: Path) -> None:
    """A good batch with some bad rows goes on."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        for model, jobs in (("missing-model", 15), ("claude-opus-4-6", 1), ("missing-model", 15)):
            await enqueue(rig, jobs, model=model, first=rig.calls())
            await rig.work_off()
        counts = await Batches(rig.redis).counts("b")
        assert (counts.failed, counts.succeeded, counts.flag) == (30, 1, "")


async def test_an_endpoint_that_fails_gets_few_calls(redis_url: str, tmp_path: Path) -> None:
    """The breaker opens after some failures, and one trial closes it again."""
    async with rigged(redis_url, tmp_path, SimulatorConfig(latency_s=0.02, down=529)) as rig:
        await enqueue(rig, 100)
        async with rig.working():
            await until(partial(_breaker_moved, rig))
            lanes = await read_lanes(rig.redis)
            assert 8 <= rig.calls() < 60
            assert Look(before=lanes[0], now=lanes[0]).limited_by == "breaker"
            rig.sim.configure(down=None)
            await until(partial(_succeeded, Batches(rig.redis), 100))


async def test_an_operators_rpm_holds_for_the_whole_fleet(redis_url: str, tmp_path: Path) -> None:
    """Two workers share one bucket: 30 calls at 10 a second take about 3 s."""
    async with rigged(redis_url, tmp_path, QUICK, rpm=600) as rig:
        ids = await enqueue(rig, 30)
        async with rig.working(), rig.working():
            rows = [await rig.row(job_id) for job_id in ids]
        starts = sorted(row.started_at for row in rows if row.started_at is not None)
        assert starts[-1] - starts[0] >= 2500
        assert rig.sim.ledger.totals.refused == 0


async def test_a_batch_keeps_the_share_of_the_limit_it_used(redis_url: str, tmp_path: Path) -> None:
    """Afterwards the batch's counts show how much of the limit was used."""
    async with rigged(redis_url, tmp_path, QUICK, rpm=600) as rig:
        await enqueue(rig, 140)
        async with rig.working():
            await until(partial(_succeeded, Batches(rig.redis), 140))
        counts = await Batches(rig.redis).counts("b")
        assert counts.metered_ms >= 5000
        assert counts.utilisation == pytest.approx(1.0, abs=0.15)


async def test_each_batch_of_a_lane_learns_what_its_own_calls_use(
    redis_url: str, tmp_path: Path
) -> None:
    """A batch of long answers must not change what a batch of short ones reserves."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        for batch, tokens in (("short", 4), ("long", 60)):
            requests = [{**hello(f"say {n}"), "max_tokens": tokens} for n in range(20)]
            await rig.producer.enqueue_many(requests, batch=batch)
        await rig.work_off()
        (name,) = await rig.redis.execute_command("SMEMBERS", keys.LANES)
        lane = keys.LANE + name.decode()
        hot = json.loads(await rig.redis.execute_command("HGET", lane, "hot"))
        costs = hot["costs"]
        assert costs["short"]["output"] < 8
        assert costs["long"]["output"] > 30
        assert costs["short"]["answers"] == costs["long"]["answers"] == 20
