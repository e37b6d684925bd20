"""`nightmill retry`: failed jobs run again, counted once, their earlier attempts kept."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from nightmill.queue.batches import Batches
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from tests.integration.shell import Shell
from tests.producer.store.samples import FAILED
from tests.rig import Rig


async def failed_night(shell: Shell, rig: Rig, count: int = 3) -> None:
    """Let all of a batch "night" fail, then mend the endpoint."""
    rig.sim.configure(down=400)
    assert shell("enqueue", shell.write(count, "night.jsonl")).code == 0
    await rig.work_off()
    rig.sim.configure(down=None)


async def test_failed_jobs_run_again_and_counts_stay_right(shell: Shell, rig: Rig) -> None:
    """Each leaves the failed as it is requeued, and its row keeps the first run's attempt."""
    await failed_night(shell, rig)
    batches = Batches(rig.redis)
    told = shell("retry", "night")
    assert (told.code, told.out) == (0, 'requeued 3 failed jobs of batch "night"\n')
    counts = await batches.counts("night")
    assert (counts.queued, counts.failed, counts.total) == (3, 0, 3)
    again = shell("retry", "night")
    assert again.out == 'requeued 0 failed jobs of batch "night", 3 queued already\n'
    await rig.work_off()
    counts = await batches.counts("night")
    assert (counts.succeeded, counts.failed, counts.done) == (3, 0, True)
    row = await rig.row("night:c1")
    assert (row.status, row.run, row.seq) == (JobState.SUCCEEDED, 1, 2)
    assert [(each.n, each.outcome) for each in row.attempts] == [(1, "failed"), (2, "succeeded")]
    assert shell("verify", "night", "--source", "night.jsonl").code == 0


async def test_what_fails_again_is_requeued_once_a_command(shell: Shell, rig: Rig) -> None:
    """A retry that runs beside workers must not chase what they fail meanwhile."""
    await failed_night(shell, rig)
    rig.sim.configure(down=400)
    async with rig.working():
        told = await asyncio.to_thread(shell, "retry", "night", "--window", "1")
    assert told.out == 'requeued 3 failed jobs of batch "night"\n'
    await rig.work_off()
    assert {row.run async for row in rig.store.stream("night")} == {1}


async def test_set_changes_the_stored_request(shell: Shell, rig: Rig) -> None:
    """A prompt that was too long for its model runs on another one, in that one's queue."""
    await failed_night(shell, rig, 1)
    told = shell(
        *("retry", "night", "--set", "model=claude-haiku-4-5", "--set", "max_tokens=7"),
        *("--set", "temperature=0.5"),
    )
    assert told.code == 0, told.err
    assert await rig.redis.zcard("nightmill:queue:night:claude-haiku-4-5") == 1
    await rig.work_off()
    assert shell("results", "night", "--failed").out == ""
    row = await rig.row("night:c0")
    asked = json.loads(bytes(row.params or b""))
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == (
        *("claude-haiku-4-5", 7, 0.5),
    )


async def test_only_failures_of_one_type(shell: Shell, rig: Rig) -> None:
    """What overload did is run again; what is wrong stays until it is mended."""
    busy = ErrorInfo(type="overloaded_error", message="busy")
    other = msgspec.structs.replace(FAILED, job_id="night:x", custom_id="x", seq=9, error=busy)
    params = msgspec.Raw('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}')
    await rig.store.record([FAILED, msgspec.structs.replace(other, params=params)])
    told = shell("retry", "night", "--error", "overloaded_error")
    assert told.out == 'requeued 1 failed jobs of batch "night"\n'
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.failed) == (1, 1)
    told = shell("retry", "night", "--error", "overload")
    assert told.code == 2
    assert "types: invalid_request_error, overloaded_error" in told.err


async def test_what_cannot_run_again_is_left_out_and_told(shell: Shell, rig: Rig) -> None:
    """No request was stored, or the patch would spoil it: exit 1, and the others go."""
    bare = msgspec.structs.replace(FAILED, job_id="night:b", custom_id="b", seq=9, params=None)
    await rig.store.record([FAILED, bare])
    told = shell("retry", "night", "--set", "temperature=9")
    assert (told.code, told.out) == (1, 'requeued 0 failed jobs of batch "night"\n')
    assert "1 would break the contract (line-8: temperature: " in told.err
    assert "nightmill enqueue IN.jsonl --batch night --changed rerun" in told.err


async def test_a_paused_batch_is_pointed_out(shell: Shell, rig: Rig) -> None:
    """The canary may have paused it, and then nothing would happen."""
    await failed_night(shell, rig, 1)
    shell("pause", "night")
    assert "nightmill resume night" in shell("retry", "night").err


@pytest.mark.parametrize("change", ["max_tokens", "=5"])
async def test_a_change_that_is_none_is_refused(shell: Shell, rig: Rig, change: str) -> None:
    """Before anything is enqueued."""
    await rig.store.record([FAILED])
    told = shell("retry", "night", "--set", change)
    assert told.code == 2
    assert "is not KEY=VALUE" in told.err


async def test_changed_rerun_feeds_what_was_unreadable(shell: Shell, rig: Rig) -> None:
    """`errors` names that command for rows that have no request of their own."""
    gone = ErrorInfo(type="payload_gone", message="evicted")
    lost = msgspec.structs.replace(
        *(FAILED,), job_id="night:c0", custom_id="c0", params=None, request_hash=None, error=gone
    )
    await rig.store.record([lost])
    source = shell.write(1, "night.jsonl")
    assert "enqueue IN.jsonl --batch night --changed rerun" in shell("errors", "night").out
    assert "1 stored already" in shell("enqueue", source).out
    assert "1 new, 1 changed" in shell("enqueue", source, "--changed", "rerun").out
