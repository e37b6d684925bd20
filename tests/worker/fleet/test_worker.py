"""A worker in this process, against a real Valkey, simulator and store."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from nightmill.queue import keys
from nightmill.records.state import JobState
from nightmill_worker.events import AccountStopped, CallFailed, JobsFinished, WorkerStopped
from nightmill_worker.simulator import Fault
from nightmill_worker.simulator.config import make_config
from tests.rig import Rig, hello, rigged, until


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path) as rig:
        yield rig


async def nothing_left(rig: Rig) -> list[bytes]:
    """Return the keys of jobs that are left in Redis, without results."""
    kept = [key async for key in rig.redis.scan_iter(count=1000)]
    kept = [key for key in kept if not key.startswith(keys.QUEUES.encode())]
    prefixes = (keys.PAYLOAD, keys.IN_PROGRESS, keys.RECORD, keys.ATTEMPTS, keys.QUEUE)
    return [key for key in kept if key.decode().startswith(prefixes)]


async def all_gone(rig: Rig) -> bool:
    """Return whether no key of a job is left."""
    return not await nothing_left(rig)


async def test_every_job_is_called_once_and_leaves_one_row(rig: Rig) -> None:
    """Single jobs and a batch run together, and leave nothing in Redis."""
    await rig.producer.enqueue_many(hello(f"single {i}") for i in range(30))
    items = ({"custom_id": f"c{i}", **hello(f"batch {i}")} for i in range(30))
    await rig.producer.enqueue_many(items, batch="b")
    await rig.work_off()
    assert (await rig.store.counts("b"))[JobState.SUCCEEDED] == 30
    assert (await rig.store.counts(""))[JobState.SUCCEEDED] == 30
    assert rig.calls() == 60
    assert sum(len(event.jobs) for event in rig.events_of(JobsFinished)) == 60
    assert await nothing_left(rig) == []


async def test_a_failed_attempt_is_followed_by_another(rig: Rig) -> None:
    """The row holds the history: the counted attempt, its error and the wait."""
    rig.sim.configure(down=500)
    receipt = await rig.producer.enqueue(hello())
    async with rig.working():
        await rig.sim.until(lambda: rig.calls() == 1)
        rig.sim.configure(down=None)
        row = await rig.row(receipt.job_id)
    assert [attempt.outcome for attempt in row.attempts] == ["retrying", "succeeded"]
    assert (row.attempt_count, row.attempts[0].status) == (2, 500)
    assert len(rig.events_of(CallFailed)) == 1


async def test_a_job_out_of_attempts_fails(rig: Rig) -> None:
    """MAX_ATTEMPTS counts calls, not waits."""
    rig.sim.configure(faults=(Fault(status=500, share=1.0),))
    receipt = await rig.producer.enqueue(hello())
    async with rig.working(max_attempts=1):
        row = await rig.row(receipt.job_id)
    assert (row.status, row.attempt_count, rig.calls()) == (JobState.FAILED, 1, 1)


@pytest.mark.parametrize("down", [503, 529])
async def test_a_single_job_outlasts_a_short_outage(rig: Rig, down: int) -> None:
    """It failed after 16 s, while a batch's breaker kept 200 jobs for a minute."""
    rig.sim.configure(down=down)
    receipt = await rig.producer.enqueue(hello())
    async with rig.working(max_attempts=1, outage_s=120.0):
        await until(lambda: len(rig.events_of(CallFailed)) == 2)
        rig.sim.configure(down=None)
        row = await rig.row(receipt.job_id)
    assert (row.status, row.attempt_count, row.snooze_count) == (JobState.SUCCEEDED, 1, 2)


async def test_a_job_without_attempts_left_outlasts_a_short_outage(rig: Rig) -> None:
    """A gateway that restarts answers 502; the calls count, and the job goes on all the same."""
    rig.sim.configure(down=502)
    receipt = await rig.producer.enqueue(hello())
    async with rig.working(max_attempts=1, outage_s=120.0):
        await until(lambda: len(rig.events_of(CallFailed)) == 2)
        rig.sim.configure(down=None)
        row = await rig.row(receipt.job_id)
    assert (row.status, row.attempt_count, row.snooze_count) == (JobState.SUCCEEDED, 3, 0)


async def test_an_endpoint_that_nobody_listens_at_leaves_calls_uncounted(
    redis_url: str, tmp_path: Path
) -> None:
    """Connection refused: no call was made, so none counts."""
    nobody = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    nobody.close()
    async with rigged(redis_url, tmp_path, base_url=url) as rig:
        receipt = await rig.producer.enqueue(hello())
        async with rig.working(max_attempts=1, outage_s=120.0):
            await until(lambda: rig.events_of(CallFailed))
        key = keys.ATTEMPTS + receipt.job_id
        attempts = await rig.redis.execute_command("LRANGE", key, 0, -1)
    [attempt] = map(msgspec.json.decode, attempts)
    assert (attempt["error_type"], attempt["counted"]) == ("connection_error", False)


async def test_an_expired_job_is_not_called(rig: Rig) -> None:
    """Its deadline passed in the queue: it still ends as a row."""
    receipt = await rig.producer.enqueue(hello(), expires=timedelta(seconds=-1))
    await rig.work_off()
    assert (await rig.row(receipt.job_id)).status is JobState.EXPIRED
    assert rig.calls() == 0


async def test_a_stored_row_is_never_paid_for_again(rig: Rig) -> None:
    """A worker died between commit and finish: the next one only finishes."""
    receipt = await rig.producer.enqueue(hello(), job_id="once")
    await rig.work_off()
    await rig.redis.delete(keys.RESULT + receipt.job_id)
    assert (await rig.producer.enqueue(hello(), job_id="once")).new
    await rig.work_off()
    assert rig.calls() == 1
    assert await nothing_left(rig) == []


async def test_stopping_gives_calls_back_without_spending_attempts(rig: Rig) -> None:
    """Past the grace period the call is cut off, and the next worker's is the first counted."""
    rig.sim.configure(latency_s=30)
    receipt = await rig.producer.enqueue(hello())
    worker = rig.worker(grace_s=0)
    running = asyncio.create_task(worker.main())
    await rig.sim.until(lambda: rig.sim.in_flight == 1)
    worker.stop()
    async with asyncio.timeout(5):
        await running
    assert rig.events_of(WorkerStopped)[0].given_back == 1
    rig.sim.configure(latency_s=0)
    await rig.work_off()
    row = await rig.row(receipt.job_id)
    assert (row.attempt_count, row.snooze_count) == (1, 1)
    assert row.attempts[0].error_type == "shutdown"


async def test_the_grace_period_lets_calls_finish(rig: Rig) -> None:
    """A restart within the grace period repeats no call."""
    rig.sim.configure(latency_s=0.5)
    await rig.producer.enqueue_many(hello(f"{i}") for i in range(10))
    worker = rig.worker()
    running = asyncio.create_task(worker.main())
    await rig.sim.until(lambda: rig.sim.in_flight > 1)
    worker.stop()
    await running
    assert (await rig.store.counts(""))[JobState.SUCCEEDED] == rig.calls() > 1
    assert rig.events_of(WorkerStopped)[0].given_back == 0


async def test_an_account_that_is_refused_stops_and_keeps_the_jobs(rig: Rig) -> None:
    """A wrong credential must not fail the jobs."""
    rig.sim.configure(auth="another")
    await rig.producer.enqueue_many(hello(f"{i}") for i in range(10))
    async with rig.working():
        await rig.sim.until(lambda: rig.calls() > 0)
        await until(lambda: rig.events_of(AccountStopped), within=5)
    assert await rig.redis.zcard(keys.QUEUE) == 10
    assert await rig.store.get("") is None


async def test_a_process_that_claims_its_own_lost_job_does_not_call_again(rig: Rig) -> None:
    """Its loop was blocked past the lease; the call under way goes on under the new one."""
    rig.sim.configure(latency_s=0.6)
    receipt = await rig.producer.enqueue(hello())
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        await rig.redis.delete(keys.IN_PROGRESS + receipt.job_id)
        await rig.redis.zadd(keys.QUEUE, {receipt.job_id: 1})
        row = await rig.row(receipt.job_id)
    assert (row.status, rig.calls()) == (JobState.SUCCEEDED, 1)
    assert await nothing_left(rig) == []


@pytest.mark.parametrize("state", [("in_flight",), ("snoozed", "deaths", 2)])
async def test_a_job_whose_worker_died_does_not_wait_behind_the_backlog(
    rig: Rig, state: tuple[str | int, ...]
) -> None:
    """Its lease ran out after all others were queued, and it is called before them."""
    rig.sim.configure(latency_s=0.2)
    receipts = await rig.producer.enqueue_many(
        {"custom_id": f"{i}", **hello(f"{i}")} for i in range(60)
    )
    lost = receipts[0].job_id
    record = (keys.RECORD + lost, "calls", 1, "claimed_at", 1, "state", *state)
    await rig.redis.execute_command("HSET", *record)
    last = (await rig.redis.zrange(keys.QUEUE, -1, -1, withscores=True))[0][1]
    await rig.redis.zadd(keys.QUEUE, {lost: last + 300})
    async with rig.working(max_in_flight=2):
        row = await rig.row(lost)
        others = [await rig.store.get(receipt.job_id) for receipt in receipts[1:]]
    assert row.status is JobState.SUCCEEDED
    assert others.count(None) > 30


async def test_an_answer_on_its_way_to_the_store_is_waited_for(rig: Rig) -> None:
    """A process that was blocked past its lease claims its own answered job: one call."""
    receipt = await rig.producer.enqueue(hello())
    async with rig.working() as worker:
        await rig.sim.until(lambda: rig.calls() == 1)
        await until(lambda: not worker.registry.running)
        await rig.redis.delete(keys.IN_PROGRESS + receipt.job_id)
        await rig.redis.zadd(keys.QUEUE, {receipt.job_id: 1}, xx=True)
        row = await rig.row(receipt.job_id)
        await until(lambda: all_gone(rig))
    assert (row.status, rig.calls()) == (JobState.SUCCEEDED, 1)


@pytest.mark.parametrize("failing", ["truncate", "drop", "wrong_type"])
async def test_broken_answers_are_tried_again(redis_url: str, tmp_path: Path, failing: str) -> None:
    """Nothing the endpoint sends ends a worker."""
    config = make_config({failing: 0.3, "seed": 7})
    async with rigged(redis_url, tmp_path, config) as rig:
        await rig.producer.enqueue_many(hello(f"{i}") for i in range(10))
        await rig.work_off()
        assert (await rig.store.counts(""))[JobState.SUCCEEDED] == 10


@pytest.mark.parametrize(("deaths", "ends"), [(18, JobState.SUCCEEDED), (19, JobState.FAILED)])
async def test_only_twenty_deaths_of_workers_make_a_job_poison(
    rig: Rig, deaths: int, ends: JobState
) -> None:
    """A good job must not be called poison because an operator kills workers again and again."""
    await rig.producer.enqueue(hello(), job_id="job")
    died = ("state", "in_flight", "calls", 5, "claimed_at", 1, "worker", "w3", "deaths", deaths)
    await rig.redis.execute_command("HSET", keys.RECORD + "job", *died)
    async with rig.working():
        row = await rig.row("job")
    assert row.status is ends
    assert rig.calls() == (ends is JobState.SUCCEEDED)
