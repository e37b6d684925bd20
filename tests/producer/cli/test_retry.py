"""`nightmill retry` runs failed jobs again; they are counted once and keep their attempts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from nightmill.queue.batches import Batches
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from tests.integration.shell import Shell
from tests.producer.store.samples import FAILED
from tests.rig import Rig


async def failed_batch(shell: Shell, rig: Rig, count: int = 3) -> None:
    """Let all jobs of a batch "night" fail, then let the endpoint answer again."""
    rig.sim.configure(down=400)
    assert shell("enqueue", shell.write(count, "night.jsonl")).code == 0
    await rig.work_off()
    rig.sim.configure(down=None)


async def test_failed_jobs_run_again_and_counts_stay_right(shell: Shell, rig: Rig) -> None:
    """A requeued job no longer counts as failed. Its row keeps the attempt of the first run."""
    await failed_batch(shell, rig)
    batches = Batches(rig.redis)
    done = shell("retry", "night")
    worker = (
        'No worker is running: run the same "nightmill run" command, or start "nightmill worker".'
    )
    assert (done.code, done.out) == (0, f'3 failed jobs of "night" are queued again. {worker}\n')
    counts = await batches.counts("night")
    assert (counts.queued, counts.failed, counts.total) == (3, 0, 3)
    again = shell("retry", "night")
    assert again.out == f'3 failed jobs of "night" are queued already. {worker}\n'
    await rig.work_off()
    counts = await batches.counts("night")
    assert (counts.succeeded, counts.failed, counts.done) == (3, 0, True)
    row = await rig.row("night:c1")
    assert (row.status, row.run, row.seq) == (JobState.SUCCEEDED, 1, 2)
    assert [(each.n, each.outcome) for each in row.attempts] == [(1, "failed"), (2, "succeeded")]
    assert shell("verify", "night", "--source", "night.jsonl").code == 0


async def test_a_command_requeues_each_job_once(shell: Shell, rig: Rig) -> None:
    """Jobs that fail again while the command runs are not requeued a second time."""
    await failed_batch(shell, rig)
    rig.sim.configure(down=400)
    async with rig.working():
        done = await asyncio.to_thread(shell, "retry", "night", "--window", "1")
    assert done.out == '3 failed jobs of "night" are queued again.\n'
    await rig.work_off()
    assert {row.run async for row in rig.store.stream("night")} == {1}


async def test_set_changes_the_stored_request(shell: Shell, rig: Rig) -> None:
    """A prompt that was too long for its model can run with another model, in its queue."""
    await failed_batch(shell, rig, 1)
    done = shell(
        *("retry", "night", "--set", "model=claude-haiku-4-5", "--set", "max_tokens=7"),
        *("--set", "temperature=0.5"),
    )
    assert done.code == 0, done.err
    assert await rig.redis.zcard("nightmill:queue:night:claude-haiku-4-5") == 1
    await rig.work_off()
    assert shell("results", "night", "--failed").out == ""
    row = await rig.row("night:c0")
    params = json.loads(bytes(row.params or b""))
    assert (params["model"], params["max_tokens"], params["temperature"]) == (
        *("claude-haiku-4-5", 7, 0.5),
    )


async def test_only_failures_of_one_type(shell: Shell, rig: Rig) -> None:
    """Jobs that failed by overload run again; jobs with a bad request stay failed."""
    busy = ErrorInfo(type="overloaded_error", message="busy")
    other = msgspec.structs.replace(FAILED, job_id="night:x", custom_id="x", seq=9, error=busy)
    params = msgspec.Raw('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}')
    await rig.store.record([FAILED, msgspec.structs.replace(other, params=params)])
    done = shell("retry", "night", "--error", "overloaded_error")
    assert done.out.startswith('1 failed job of "night" is queued again. ')
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.failed) == (1, 1)
    done = shell("retry", "night", "--error", "overload")
    assert done.code == 2
    assert "types: invalid_request_error, overloaded_error" in done.err


async def test_jobs_that_cannot_run_again_are_left_out(shell: Shell, rig: Rig) -> None:
    """No request is stored, or the changed request is invalid: exit 1, the others are requeued."""
    bare = msgspec.structs.replace(FAILED, job_id="night:b", custom_id="b", seq=9, params=None)
    await rig.store.record([FAILED, bare])
    done = shell("retry", "night", "--set", "temperature=9")
    assert (done.code, done.out) == (1, '"night" has no failed jobs\n')
    assert "1 would be invalid requests (line-8: temperature: " in done.err
    assert "nightmill enqueue IN.jsonl --batch night --changed rerun" in done.err


async def test_a_paused_batch_is_pointed_out(shell: Shell, rig: Rig) -> None:
    """Jobs of a paused batch do not run: the canary may have paused it."""
    await failed_batch(shell, rig, 1)
    shell("pause", "night")
    assert "nightmill resume night" in shell("retry", "night").err


@pytest.mark.parametrize("change", ["max_tokens", "=5"])
async def test_a_malformed_change_is_refused(shell: Shell, rig: Rig, change: str) -> None:
    """Nothing is enqueued."""
    await rig.store.record([FAILED])
    done = shell("retry", "night", "--set", change)
    assert done.code == 2
    assert "is not KEY=VALUE" in done.err


async def test_changed_rerun_feeds_jobs_without_a_stored_request(shell: Shell, rig: Rig) -> None:
    """`nightmill errors` names that command for such jobs."""
    gone = ErrorInfo(type="payload_gone", message="evicted")
    lost = msgspec.structs.replace(
        *(FAILED,), job_id="night:c0", custom_id="c0", params=None, request_hash=None, error=gone
    )
    await rig.store.record([lost])
    source = shell.write(1, "night.jsonl")
    assert "enqueue IN.jsonl --batch night --changed rerun" in shell("errors", "night").out
    assert "1 stored already" in shell("enqueue", source).out
    assert "1 new, 1 changed" in shell("enqueue", source, "--changed", "rerun").out


@pytest.mark.parametrize("command", ["retry", "verify", "prune"])
async def test_a_machine_without_results_is_no_missing_extra(
    shell: Shell, tmp_path: Path, command: str
) -> None:
    """Nothing was stored yet, and pip install 'nightmill[store]' was the advice."""
    assert shell("enqueue", shell.write(1, "night.jsonl")).code == 0
    empty = tmp_path / "empty" / "data"
    more = ("--yes",) if command == "prune" else ()
    done = shell(command, "night", "--data-dir", str(empty), *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: no results in {empty}. ")
