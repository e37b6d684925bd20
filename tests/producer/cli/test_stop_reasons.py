"""Answers that are not whole are told, counted once, and can be run again."""

from __future__ import annotations

import msgspec

from nightmill.client.corrected import with_store
from nightmill.enqueue.reconcile import reconcile
from nightmill.queue.batches import Batches
from nightmill.records.counts import Counts
from tests.integration.shell import Shell
from tests.producer.store.samples import numbered
from tests.rig import Rig

STOPS = ("end_turn", "max_tokens", "max_tokens", "refusal", "brand_new", None)


async def answered(rig: Rig) -> None:
    """Store rows of "night" with various stop reasons, as workers left them, and count them."""
    params = msgspec.Raw('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}')
    rows = [
        msgspec.structs.replace(numbered(seq), stop_reason=stop, params=params)
        for seq, stop in enumerate(STOPS, 1)
    ]
    await rig.store.record(rows)
    assert await reconcile(Batches(rig.redis), "night", rig.store)


async def test_redis_that_lost_its_counts_gets_the_stop_reasons_from_the_store(rig: Rig) -> None:
    """Every row is counted once, and one that ran again meanwhile is not counted any more."""
    await answered(rig)
    batches = Batches(rig.redis)
    counts = await batches.counts("night")
    found = {"end_turn": 1, "max_tokens": 2, "refusal": 1, "brand_new": 1, "none": 1}
    assert counts.stop_reasons == found
    assert (await with_store(Counts(), "night", rig.store)).stop_reasons == found
    first = msgspec.structs.replace(numbered(2), stop_reason="end_turn", run=1)
    await rig.store.record([first])
    assert await reconcile(batches, "night", rig.store)
    counts = await batches.counts("night")
    assert counts.stop_reasons == found | {"end_turn": 2, "max_tokens": 1}
    assert counts.succeeded == sum(counts.stop_reasons.values())


async def test_workers_count_each_answer_and_a_rerun_replaces_it(shell: Shell, rig: Rig) -> None:
    """`retry` and `--changed rerun` take an answer's count back when its next run is queued."""
    cut = shell.write(3, "night.jsonl", max_tokens=1)
    assert shell("enqueue", cut).code == 0
    await rig.work_off()
    batches = Batches(rig.redis)
    assert (await batches.counts("night")).stop_reasons == {"max_tokens": 3}
    whole = shell.write(3, "night.jsonl", max_tokens=500)
    assert shell("enqueue", whole, "--changed", "rerun").code == 0
    assert (await batches.counts("night")).stop_reasons == {}
    await rig.work_off()
    assert (await batches.counts("night")).stop_reasons == {"end_turn": 3}
