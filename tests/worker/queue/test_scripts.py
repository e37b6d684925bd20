"""The scripts as a worker calls them, against a real Valkey."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.enqueue.prepare import defaults_of
from nightmill.pricing.cost import LIST
from nightmill.queue import keys, wire
from nightmill.records.result import KEPT_FIRST, KEPT_LAST, Attempt
from nightmill.records.state import JobState
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.jobs.rows import row_of
from nightmill_worker.queue.records import Ask, GrantedJob, Release
from nightmill_worker.queue.scripts import Scripts
from tests.rig import hello, rigged
from tests.worker.queue.desk import finished

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig import Rig
    from tests.worker.queue.desk import Desk

ACCOUNT, LEASE_MS = "l", 60_000
OPEN = {"window": 999, "gates": {}, "reserves": False, "pause": 0, "breaker": "closed", "round": 0}
ORDERS = msgspec.json.encode(OPEN)
CALLS = 3 * (KEPT_FIRST + KEPT_LAST)


def scripts_of(rig: Rig) -> Scripts:
    """Return scripts whose lanes keep no job waiting."""
    return Scripts(
        rig.redis,
        account=ACCOUNT,
        orders=ORDERS,
        lease_ms=LEASE_MS,
        canary=0,
        emit=rig.events.append,
    )


async def claim_one(scripts: Scripts, seq: int) -> GrantedJob:
    """Claim the only job there is."""
    ask = Ask(
        worker="w",
        seq=seq,
        account=ACCOUNT,
        want=1,
        lease_ms=LEASE_MS,
        functions={wire.FUNCTION: True},
        model="m",
    )
    (claimed,) = (await scripts.claim(ask)).jobs
    return claimed


async def call(scripts: Scripts, attempt: Attempt, *, failed: int = 0) -> GrantedJob:
    """Claim the job, and release it after a call that ended as `attempt` says."""
    claimed = await claim_one(scripts, attempt.n)
    item = Release(
        id=claimed.id,
        token=claimed.token,
        queue=claimed.queue,
        state="retrying" if attempt.counted else "snoozed",
        wait_ms=0,
        counted=int(attempt.counted),
        refused=int(not attempt.counted and not failed),
        failed=failed,
        attempt=msgspec.json.encode(attempt).decode(),
    )
    late = await scripts.release([item])
    assert late.lost | late.gone == set()
    return claimed


def history() -> list[Attempt]:
    """Return many attempts: refused, given back at shutdowns, and some that counted."""
    kinds = ("rate_limit_error", "shutdown", None) * (CALLS // 3)
    return [
        Attempt(n=n, started_at=n, duration_ms=n, outcome="x", counted=n % 10 == 0, error_type=kind)
        for n, kind in enumerate(kinds, 1)
    ]


async def test_a_long_history_keeps_its_ends_and_exact_totals(
    redis_url: str, tmp_path: Path
) -> None:
    """The history of a job that is refused for hours stays short, and its totals stay right."""
    past = history()
    async with rigged(redis_url, tmp_path) as rig:
        await rig.producer.enqueue(hello())
        scripts = scripts_of(rig)
        for attempt in past:
            await call(scripts, attempt)
        claimed = ClaimedJob(
            await claim_one(scripts, CALLS + 1), "w", ACCOUNT, defaults_of(rig.settings)
        )
    row = row_of(claimed, JobState.FAILED, None, prices=LIST, keep_params=False, rehearsal=False)
    assert row.attempts == (*past[:KEPT_FIRST], *past[-KEPT_LAST:])
    assert row.attempt_count == sum(each.counted for each in past)
    assert row.snooze_count == CALLS - row.attempt_count
    uncounted = Counter(each.error_type or each.outcome for each in past if not each.counted)
    assert row.snooze_reasons == uncounted
    assert (row.started_at, row.call_ms) == (1, sum(each.duration_ms for each in past))


async def test_the_time_of_a_first_failure_and_the_outages_are_kept(
    redis_url: str, tmp_path: Path
) -> None:
    """A refusal is no failure; Redis's clock says when the first call failed, and that stays."""
    kinds = [(False, 0), (False, 1), (True, 1), (False, 1), (False, 0)]
    async with rigged(redis_url, tmp_path) as rig:
        await rig.producer.enqueue(hello())
        scripts = scripts_of(rig)
        claims = [
            await call(scripts, Attempt(n=n, started_at=n, outcome="x", counted=counted), failed=of)
            for n, (counted, of) in enumerate(kinds, 1)
        ]
        last = await claim_one(scripts, len(kinds) + 1)
    assert [each.outages for each in (*claims, last)] == [0, 0, 1, 1, 2, 2]
    assert [bool(each.failed_at) for each in claims[:2]] == [False, False]
    assert {each.failed_at for each in claims[2:]} == {last.failed_at}
    assert claims[1].claimed_at <= last.failed_at <= claims[2].claimed_at


async def test_a_script_that_redis_forgets_between_load_and_call_is_tried_again(
    redis_url: str, tmp_path: Path
) -> None:
    """redis-py loads a forgotten script once. It gives up when that one is forgotten too."""
    async with rigged(redis_url, tmp_path) as rig:
        answers = iter(
            (
                rig.redis.execute_command("EVALSHA", "0" * 40, 0),
                rig.redis.execute_command("PING"),
            )
        )
        assert await scripts_of(rig).persist(lambda: next(answers))


async def test_a_script_is_sent_again_to_a_redis_that_does_not_know_it(
    redis_url: str, tmp_path: Path
) -> None:
    """After SCRIPT FLUSH, a restart or a failover; the worker takes it for no outage."""
    async with rigged(redis_url, tmp_path) as rig:
        scripts = scripts_of(rig)
        for _ in range(2):
            await rig.redis.execute_command("SCRIPT FLUSH")
            assert await scripts.sweep() == []
        assert not rig.events


async def test_a_script_whose_caller_is_cancelled_leaves_no_answer_behind(
    redis_url: str, tmp_path: Path
) -> None:
    """The next script would take it for its own."""
    async with rigged(redis_url, tmp_path) as rig:
        scripts = scripts_of(rig)
        assert await scripts.sweep() == []
        for steps in range(6):
            task = asyncio.create_task(scripts.sweep())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await scripts.command("ECHO", str(steps)) == str(steps).encode()
            assert await scripts.sweep() == []
        pool = rig.redis.connection_pool
        assert not pool._in_use_connections


@pytest.mark.parametrize(("ending", "succeeded"), [(None, b""), ("cancelled", b"1")])
def test_a_row_that_a_cancellation_wrote_is_counted_when_its_job_is_finished(
    desk: Desk, ending: str | None, succeeded: bytes
) -> None:
    """The cancellation may have died between the commit and the count; other rows were counted."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    if ending is not None:
        desk.redis.hset(keys.RECORD + "x", "ending", ending)
    assert desk.finish([finished(job, again=1)]) == []
    assert desk.field(keys.BATCH + "b", "succeeded") == succeeded
