"""One prompt, one model or an old answer stops nothing else: workers against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.stops import read_stops
from nightmill.records.state import JobState
from nightmill_worker.events import AccountStopped, CallRefused, LaneHeld, LaneStopped
from nightmill_worker.simulator import SimulatorConfig
from nightmill_worker.simulator.config import make_config
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.records.result import Result

ECHO = "my credit balance is mentioned"
SCRIPT = "<script>alert(1)</script>"
QUICK = SimulatorConfig(
    latency_s=0.02, block="<script>", echo="credit balance", deny_model="denied"
)


async def enqueue(rig: Rig, texts: Iterable[str], **fields: object) -> None:
    """Enqueue prompts in batch "b", named by their place."""
    requests = [
        {**hello(f"{number}: {text}"), **fields, "custom_id": f"{fields.get('model', '')}{number}"}
        for number, text in enumerate(texts)
    ]
    await rig.producer.enqueue_many(requests, batch="b")


async def ended(rig: Rig, succeeded: int, failed: int) -> bool:
    """Return whether the batch has these counts and nothing is left."""
    counts = await Batches(rig.redis).counts("b")
    return (counts.succeeded, counts.failed, counts.drained) == (succeeded, failed, True)


async def failures(rig: Rig) -> list[Result]:
    """Return the rows that failed."""
    return [row async for row in rig.store.stream("b") if row.status is JobState.FAILED]


@pytest.mark.parametrize(
    ("bad", "kind"), [(SCRIPT, "permission_error"), (ECHO, "invalid_request_error")]
)
@pytest.mark.parametrize("place", [0, 7, 59])
async def test_one_refused_prompt_of_sixty_fails_alone(
    redis_url: str, tmp_path: Path, bad: str, kind: str, place: int
) -> None:
    """A firewall's page, or a 400 that repeats "credit balance": exit 3, for ever."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        await enqueue(rig, [bad if n == place else "say this" for n in range(60)])
        async with rig.working():
            await until(lambda: ended(rig, 59, 1))
        (row,) = await failures(rig)
        assert row.custom_id == str(place)
        assert row.error is not None
        assert row.error.type == kind
        assert "requeue" in (row.error.fix or "")
        assert [attempt.status for attempt in row.attempts][-1] == (403 if bad == SCRIPT else 400)
        assert row.attempt_count == 0, "what it met was not counted"
        assert not rig.events_of(AccountStopped)
        assert not rig.events_of(LaneStopped)
        assert len(rig.events_of(LaneHeld)) == 1
        assert rig.calls() <= 60 + 2, "it is not called again, unless it is the last"


@pytest.mark.parametrize("bad", [SCRIPT, ECHO])
async def test_refused_prompts_that_stand_together_fail_alone(
    redis_url: str, tmp_path: Path, bad: str
) -> None:
    """The first window was all refused, and so were the next jobs in order.

    Trials are at random places, and two that are refused before any call succeeds stop the lane: so
    most jobs are others.
    """
    async with rigged(redis_url, tmp_path, QUICK, canary=0) as rig:
        await enqueue(rig, [bad if n < 40 else "say this" for n in range(2_000)])
        async with rig.working(), rig.working():
            await until(lambda: ended(rig, 1_960, 40), within=60)
        assert {row.custom_id for row in await failures(rig)} == {str(n) for n in range(40)}


async def test_a_few_jobs_that_are_all_in_flight_end_too(redis_url: str, tmp_path: Path) -> None:
    """No other job is left to try when one of ten is refused."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        await enqueue(rig, ["a", SCRIPT, *"cdefghi", ECHO])
        async with rig.working():
            await until(lambda: ended(rig, 8, 2))


async def test_the_last_job_is_refused_alone(redis_url: str, tmp_path: Path) -> None:
    """All others had ended just before: it stopped the lane, and the run waited for a person."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        await enqueue(rig, ["a", "b"])
        async with rig.working():
            await until(lambda: ended(rig, 2, 0))
            await rig.producer.enqueue_many([{**hello(ECHO), "custom_id": "last"}], batch="b")
            await until(lambda: ended(rig, 2, 1))


async def test_a_model_that_is_denied_stops_its_lane_alone(redis_url: str, tmp_path: Path) -> None:
    """A permission error for one of two models left 27 of 30 jobs of the other one undone."""
    async with rigged(redis_url, tmp_path, QUICK) as rig:
        await enqueue(rig, ["say this"] * 10, model="denied")
        await enqueue(rig, ["say this"] * 30, model="allowed")
        batches = Batches(rig.redis)
        async with rig.working() as worker:
            await until(lambda: rig.events_of(LaneStopped))
            await until(lambda: succeeded(batches, 30))
            stops = await read_stops(rig.redis, ["b"])
            assert "lane denied is stopped: permission_error" in stops.reason("b")
            assert await batches.accounts() == {}
            refused = rig.calls() - 30
            assert refused <= 10
            rig.sim.configure(deny_model=None)
            assert await batches.try_account_again(worker.account) == (False, 1)
            await until(lambda: ended(rig, 40, 0))
        assert rig.events_of(AccountStopped) == []


async def succeeded(batches: Batches, jobs: int) -> bool:
    """Return whether so many jobs of the batch have succeeded."""
    return (await batches.counts("b")).succeeded == jobs


async def test_models_that_are_all_denied_stop_the_account(redis_url: str, tmp_path: Path) -> None:
    """Then the permission is missing for the credential, and nothing fails."""
    async with rigged(redis_url, tmp_path, make_config({"down": 403, "latency_s": 0.02})) as rig:
        for model in ("one", "two"):
            await enqueue(rig, ["say this"] * 30, model=model)
        async with rig.working() as worker:
            await until(lambda: rig.events_of(AccountStopped))
            await until(lambda: still(rig))
            accounts = await Batches(rig.redis).accounts()
        assert "permission_error" in accounts[worker.account]["reason"]
        counts = await Batches(rig.redis).counts("b")
        assert (counts.failed, counts.waiting) == (0, 60)


async def still(rig: Rig) -> bool:
    """Return whether no job is in flight."""
    return not (await Batches(rig.redis).counts("b")).in_flight


async def test_credit_that_is_used_up_in_mid_run_fails_no_job(
    redis_url: str, tmp_path: Path
) -> None:
    """Calls that were sent before succeed after the first refusal; each could fail a job."""
    async with rigged(redis_url, tmp_path, SimulatorConfig(latency_s=0.3, jitter=0.5)) as rig:
        await enqueue(rig, ["say this"] * 300)
        batches = Batches(rig.redis)
        async with rig.working() as worker, rig.working():
            await rig.sim.until(lambda: rig.calls() > 100)
            calls, in_flight = rig.calls(), rig.sim.in_flight
            rig.sim.configure(credit_exhausted=True)
            await until(lambda: rig.events_of(LaneStopped))
            await until(lambda: still(rig))
            assert rig.calls() - calls <= in_flight + 2 + 16, "calls on their way, and two trials"
            assert (await batches.counts("b")).failed == 0
            rig.sim.configure(credit_exhausted=False)
            await batches.try_account_again(worker.account)
            await until(lambda: ended(rig, 300, 0))


async def test_refused_prompts_hold_the_lane_once(redis_url: str, tmp_path: Path) -> None:
    """With 5 of 100 prompts blocked and calls of 0.5 s, the lane would be held most of the time."""
    config = SimulatorConfig(latency_s=0.5, block="<script>")
    async with rigged(redis_url, tmp_path, config, canary=0) as rig:
        await enqueue(rig, [SCRIPT if n % 20 == 0 else "say this" for n in range(600)])
        async with rig.working():
            await until(lambda: ended(rig, 570, 30), within=60)
        assert len(rig.events_of(LaneHeld)) <= 2


async def test_a_429_of_a_limit_that_others_use_up_ends_no_job(
    redis_url: str, tmp_path: Path
) -> None:
    """The last job failed after 5 refusals: "make the request smaller"."""
    config = make_config({"down": 429, "headers": False, "retry_after": False})
    async with rigged(redis_url, tmp_path, config) as rig:
        await enqueue(rig, ["hi"])
        await rig.redis.execute_command("HSET", keys.RECORD + "b:0", "refusals", 40)
        async with rig.working():
            await until(lambda: rig.events_of(CallRefused))
            rig.sim.configure(down=None)
            await until(lambda: ended(rig, 1, 0))


async def test_a_job_that_is_larger_than_a_reported_limit_fails(
    redis_url: str, tmp_path: Path
) -> None:
    """It would be refused for ever, and the headers say so."""
    async with rigged(redis_url, tmp_path, make_config({"itpm": 1000})) as rig:
        await enqueue(rig, ["word " * 4000])
        await rig.redis.execute_command("HSET", keys.RECORD + "b:0", "refusals", 4)
        async with rig.working():
            await until(lambda: ended(rig, 0, 1))
        (row,) = await failures(rig)
        assert row.error is not None
        assert row.error.type == "exceeds_limit"
        assert "1,000" in row.error.message


async def test_a_worker_reports_its_account_and_its_batch(redis_url: str, tmp_path: Path) -> None:
    """Commands ask which credentials the running workers have."""
    async with rigged(redis_url, tmp_path, QUICK) as rig, rig.working(only_batch="b c") as worker:
        await until(lambda: rig.redis.execute_command("HGET", keys.WORKERS, worker.name))
        (beat,) = (await read_stops(rig.redis, [])).workers
        assert (beat.account, beat.only) == (worker.account, "b c")
