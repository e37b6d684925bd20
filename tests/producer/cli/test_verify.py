"""`nightmill verify` and `nightmill prune`."""

from __future__ import annotations

import json

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.queue.batches import Batches
from nightmill.records.result import Attempt
from tests.integration.shell import Shell
from tests.producer.store.samples import SUCCEEDED, numbered
from tests.rig import Rig, hello


async def finished_batch(shell: Shell, rig: Rig) -> str:
    """Run a batch "night" of four jobs to its end; return its source."""
    source = shell.write(4, "night.jsonl")
    assert shell("enqueue", source).code == 0
    await rig.work_off()
    return source


async def test_a_complete_batch_verifies(shell: Shell, rig: Rig) -> None:
    """The command exits 0. `--json` is for scripts."""
    source = await finished_batch(shell, rig)
    done = shell("verify", "night", "--source", source)
    assert (done.code, done.err) == (0, "")
    assert done.out == "night: no job is missing (4 stored, 0 not finished)\n"
    verdict = json.loads(shell("verify", "night", "--json").out)
    assert (verdict["batch"], verdict["holds"], verdict["rows"]) == ("night", True, 4)


async def test_repair_feeds_what_is_missing(shell: Shell, rig: Rig) -> None:
    """A Redis that lost its last second: two jobs have neither a row nor a queue entry."""
    source = shell.write(4, "night.jsonl")
    shell("enqueue", source)
    queue = "nightmill:queue:night:claude-opus-4-6"
    await rig.redis.zrem(queue, "night:c1", "night:c2")
    await rig.redis.delete("arq:job:night:c1", "arq:job:night:c2")
    done = shell("verify", "night", "--source", source)
    assert done.code == 1
    assert "2 ids have neither a row nor a job" in done.out
    assert "missing: c1, c2" in done.out
    done = shell("verify", "night", "--source", source, "--repair")
    assert done.code == 0
    assert done.out == "night: no job is missing (0 stored, 4 not finished)\n"
    assert 'repaired: 2 jobs of batch "night" fed again' in done.err
    await rig.work_off()
    assert rig.calls() == 4


async def test_a_deleted_row_is_found_and_repaired(shell: Shell, rig: Rig) -> None:
    """The repair sets the counts from the rows and feeds the job from its source."""
    source = await finished_batch(shell, rig)
    await rig.store.prune("night")
    done = shell("verify", "night")
    assert done.code == 1
    assert "4 succeeded by Redis's count, 0 rows" in done.out
    assert shell("verify", "night", "--source", source, "--repair").code == 0
    await rig.work_off()
    assert shell("verify", "night", "--source", source).code == 0


async def test_calls_lost_in_crashes_are_shown(shell: Shell, rig: Rig) -> None:
    """Users see what dead workers cost."""
    lost = Attempt(n=1, started_at=1, outcome="lost", counted=False)
    await rig.store.record([msgspec.structs.replace(SUCCEEDED, attempts=(lost,), cost=0.25)])
    assert "calls lost in crashes: 1, about $0.2500" in shell("verify", "night").out


async def test_bad_usage_is_one_line_of_error(shell: Shell, rig: Rig) -> None:
    """The command exits 2."""
    await rig.store.record([SUCCEEDED])
    for arguments, problem in {
        ("knight",): 'no batch "knight"; batches: night',
        ("night", "--repair"): "--repair needs --source IN.jsonl, the file that was fed",
        ("night", "--source", "-"): "- can be read only once: give the file that was fed",
    }.items():
        done = shell("verify", *arguments)
        assert (done.code, done.out, done.err) == (2, "", f"error: {problem}\n")


async def test_prune_deletes_a_finished_batch(shell: Shell, rig: Rig) -> None:
    """Redis forgets the batch too, so that store and Redis agree."""
    await finished_batch(shell, rig)
    done = shell("prune", "night", given=b"n\n")
    assert done.code == 1
    assert 'Delete the results of batch "night"?' in done.err
    assert await rig.store.batches() != {}
    done = shell("prune", "night", "--yes")
    assert (done.code, done.out) == (0, 'deleted 4 results of batch "night"\n')
    assert await rig.store.batches() == {}
    assert await Batches(rig.redis).names() == []


async def test_prune_refuses_a_batch_with_unfinished_jobs(shell: Shell, rig: Rig) -> None:
    """A job whose row is deleted would be paid for again."""
    await finished_batch(shell, rig)
    shell("enqueue", shell.write(6, "night.jsonl"))
    done = shell("prune", "night", "--yes")
    assert (done.code, done.out) == (2, "")
    assert 'batch "night": 2 jobs are queued or in flight' in done.err
    async with FeederLock(rig.redis, "night"):
        assert "is being fed" in shell("prune", "night", "--yes").err
    assert sum((await rig.store.counts("night")).values()) == 4


async def test_prune_by_age_skips_batches_that_run(shell: Shell, rig: Rig) -> None:
    """--older-than deletes from every finished batch; --yes skips the question."""
    await finished_batch(shell, rig)
    await rig.store.record([numbered(9, finished_at=1), numbered(1, batch="day", finished_at=1)])
    await rig.producer.enqueue_many([{"custom_id": "x", **hello()}], batch="day")
    done = shell("prune", "--older-than", "30d", "--yes")
    assert done.code == 0
    assert done.out == "deleted 1 result of all batches that ended more than 30d ago\n"
    assert done.err.startswith('left alone: batch "day": 1 jobs are queued or in flight')
    assert shell("verify", "night").code == 0
    assert sum((await rig.store.counts("night")).values()) == 4


def test_prune_needs_a_batch_or_an_age(shell: Shell) -> None:
    """Without either it would delete everything."""
    assert "name a batch, or give --older-than 30d" in shell("prune", "--yes").err
    assert "'30 days' is no age" in shell("prune", "--older-than", "30 days", "--yes").err
