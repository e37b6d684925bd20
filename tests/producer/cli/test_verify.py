"""`nightmill verify` and `nightmill prune`: the promise proven, and what may be deleted."""

from __future__ import annotations

import json

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.queue.batches import Batches
from nightmill.records.result import Attempt
from tests.integration.shell import Shell
from tests.producer.store.samples import SUCCEEDED, numbered
from tests.rig import Rig, hello


async def night(shell: Shell, rig: Rig) -> str:
    """Run a batch "night" of four to its end; return its source."""
    source = shell.write(4, "night.jsonl")
    assert shell("enqueue", source).code == 0
    await rig.work_off()
    return source


async def test_a_whole_batch_verifies(shell: Shell, rig: Rig) -> None:
    """Exit 0, and a script can read why."""
    source = await night(shell, rig)
    told = shell("verify", "night", "--source", source)
    assert (told.code, told.err) == (0, "")
    assert told.out == "night: every job has its one row (4 stored, 0 on their way)\n"
    verdict = json.loads(shell("verify", "night", "--json").out)
    assert (verdict["batch"], verdict["holds"], verdict["rows"]) == ("night", True, 4)


async def test_repair_feeds_what_is_missing(shell: Shell, rig: Rig) -> None:
    """A Redis that lost its last second: two jobs have neither a row nor a place."""
    source = shell.write(4, "night.jsonl")
    shell("enqueue", source)
    queue = "nightmill:queue:night:claude-opus-4-6"
    await rig.redis.zrem(queue, "night:c1", "night:c2")
    await rig.redis.delete("arq:job:night:c1", "arq:job:night:c2")
    told = shell("verify", "night", "--source", source)
    assert told.code == 1
    assert "2 ids have neither a row nor a job" in told.out
    assert "missing: c1, c2" in told.out
    told = shell("verify", "night", "--source", source, "--repair")
    assert (told.code, told.out) == (
        *(0, "night: every job has its one row (0 stored, 4 on their way)\n"),
    )
    assert 'repaired: 2 jobs of batch "night" fed again' in told.err
    await rig.work_off()
    assert rig.calls() == 4


async def test_a_deleted_row_is_told_and_repaired(shell: Shell, rig: Rig) -> None:
    """The counts come from the rows again, and the job from its source."""
    source = await night(shell, rig)
    await rig.store.prune("night")
    told = shell("verify", "night")
    assert told.code == 1
    assert "4 succeeded by Redis's count, 0 rows" in told.out
    assert shell("verify", "night", "--source", source, "--repair").code == 0
    await rig.work_off()
    assert shell("verify", "night", "--source", source).code == 0


async def test_calls_lost_in_crashes_are_told(shell: Shell, rig: Rig) -> None:
    """What a dead machine cost is known."""
    lost = Attempt(n=1, started_at=1, outcome="lost", counted=False)
    await rig.store.record([msgspec.structs.replace(SUCCEEDED, attempts=(lost,), cost=0.25)])
    assert "wasted in crashes: 1 calls, about $0.2500" in shell("verify", "night").out


async def test_verify_says_what_it_needs(shell: Shell, rig: Rig) -> None:
    """One line, exit 2."""
    await rig.store.record([SUCCEEDED])
    for arguments, problem in {
        ("knight",): 'no batch "knight"; batches: night',
        ("night", "--repair"): "--repair needs --source IN.jsonl, the file that was fed",
        ("night", "--source", "-"): "- can be read only once: give the file that was fed",
    }.items():
        told = shell("verify", *arguments)
        assert (told.code, told.out, told.err) == (2, "", f"error: {problem}\n")


async def test_prune_deletes_a_batch_that_is_over(shell: Shell, rig: Rig) -> None:
    """And Redis forgets it, so that nothing disagrees afterwards."""
    await night(shell, rig)
    told = shell("prune", "night", given=b"n\n")
    assert told.code == 1
    assert 'Delete the results of batch "night"?' in told.err
    assert await rig.store.batches() != {}
    told = shell("prune", "night", "--yes")
    assert (told.code, told.out) == (0, 'deleted 4 results of batch "night"\n')
    assert await rig.store.batches() == {}
    assert await Batches(rig.redis).names() == []


async def test_prune_refuses_a_batch_that_is_not_drained(shell: Shell, rig: Rig) -> None:
    """A job without its row would be paid for again."""
    await night(shell, rig)
    shell("enqueue", shell.write(6, "night.jsonl"))
    told = shell("prune", "night", "--yes")
    assert (told.code, told.out) == (2, "")
    assert 'batch "night": 2 jobs are on their way' in told.err
    async with FeederLock(rig.redis, "night"):
        assert "is being fed" in shell("prune", "night", "--yes").err
    assert sum((await rig.store.counts("night")).values()) == 4


async def test_prune_by_age_takes_the_old_and_leaves_what_runs(shell: Shell, rig: Rig) -> None:
    """Every batch that is over, without a question when told so."""
    await night(shell, rig)
    await rig.store.record([numbered(9, finished_at=1), numbered(1, batch="day", finished_at=1)])
    await rig.producer.enqueue_many([{"custom_id": "x", **hello()}], batch="day")
    told = shell("prune", "--older-than", "30d", "--yes")
    assert (told.code, told.out) == (
        *(0, "deleted 1 results of all batches that ended more than 30d ago\n"),
    )
    assert told.err.startswith('left alone: batch "day": 1 jobs are on their way')
    assert shell("verify", "night").code == 0
    assert sum((await rig.store.counts("night")).values()) == 4


def test_prune_wants_to_know_what(shell: Shell) -> None:
    """It never deletes everything by mistake."""
    assert "name a batch, or give --older-than 30d" in shell("prune", "--yes").err
    assert "'30 days' is no age" in shell("prune", "--older-than", "30 days", "--yes").err
