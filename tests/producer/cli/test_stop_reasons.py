"""Answers that are not whole are shown, counted once, and can be run again."""

from __future__ import annotations

import msgspec

from nightmill.client.corrected import with_store
from nightmill.enqueue.reconcile import reconcile
from nightmill.maintenance.cancellation import Cancellation
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
    await Batches(rig.redis).make_known("night")


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


async def test_cut_answers_run_again_with_more_max_tokens(shell: Shell, rig: Rig) -> None:
    """`retry` knew failed jobs only; without a change they would be cut and paid for again."""
    await answered(rig)
    refused = shell("retry", "night", "--truncated")
    assert refused.code == 2
    assert "add --set max_tokens=N" in refused.err
    done = shell("retry", "night", "--truncated", "--set", "max_tokens=99")
    assert done.out.startswith('2 max_tokens answers of "night" are queued again. No worker ')
    assert "--changed keep" in done.out
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.succeeded) == (2, 4)
    assert "max_tokens" not in counts.stop_reasons
    await rig.work_off()
    row = await rig.row("night:line-2")
    assert (row.run, row.stop_reason) == (1, "max_tokens")
    assert b'"max_tokens":99' in bytes(row.params or b"")


async def test_answers_with_any_stop_reason_run_again(shell: Shell, rig: Rig) -> None:
    """Refused ones, unknown ones, those without one; an unknown name lists the known ones."""
    await answered(rig)
    for reason in ("refusal", "brand_new", "none"):
        done = shell("retry", "night", "--stop-reason", reason)
        assert done.out.startswith(f'1 {reason} answer of "night" is queued again.'), done
    wrong = shell("retry", "night", "--stop-reason", "refused")
    assert wrong.code == 2
    assert "stop reasons: brand_new, end_turn, max_tokens, none, refusal" in wrong.err
    both = shell("retry", "night", "--truncated", "--cancelled")
    assert (both.code, "--truncated and --cancelled: give one" in both.err) == (2, True)


async def test_cancelled_jobs_run_after_all(shell: Shell, rig: Rig) -> None:
    """A cancelled batch refused every command; `retry` said "requeued 0 failed jobs"."""
    source = shell.write(3, "cx.jsonl")
    assert shell("enqueue", source).code == 0
    assert shell("cancel", "cx").code == 0
    await Cancellation(rig.redis, rig.store, rig.settings).run("cx")
    assert shell("retry", "cx").out == (
        '"cx" has no failed jobs; its 3 cancelled ones are not retried: '
        "nightmill retry cx --cancelled\n"
    )
    done = shell("retry", "cx", "--cancelled")
    assert done.out.startswith('3 cancelled jobs of "cx" are queued again.'), done
    batches = Batches(rig.redis)
    assert (await batches.counts("cx")).state == "running"
    known = await rig.store.known("cx")
    assert known is not None
    assert known.state == "fed"
    await rig.work_off()
    counts = await batches.counts("cx")
    assert (counts.succeeded, counts.cancelled, counts.done) == (3, 0, True)


async def test_errors_and_status_tell_what_is_not_whole(shell: Shell, rig: Rig) -> None:
    """Both showed nothing: the jobs have succeeded."""
    await answered(rig)
    out = shell("errors", "night").out
    assert "2 x stop reason max_tokens: cut at max_tokens" in out
    fix = (
        "  to fix it  raise max_tokens, then: nightmill retry night --truncated --set max_tokens=N"
    )
    assert fix in out.splitlines()
    assert "nightmill retry night --stop-reason refusal --set model=NAME" in out
    assert "nightmill retry night --stop-reason brand_new" in out
    shown = shell("status", "night").out
    assert "night: 2 cut at max_tokens, 1 stopped with brand_new, 1 without a stop reason" in shown
    assert (
        shell.status("night")["stop_reasons"]
        == (await Batches(rig.redis).counts("night")).stop_reasons
    )
