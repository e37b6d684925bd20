"""`nightmill show` and `nightmill errors`: the morning's questions."""

from __future__ import annotations

import msgspec

from tests.integration.shell import Shell
from tests.producer.store.samples import FAILED, SINGLE, SUCCEEDED
from tests.rig import Rig, hello


async def test_show_tells_a_stored_job(shell: Shell, rig: Rig) -> None:
    """A batch's job by its batch and custom_id, a single one by its id."""
    await rig.store.record([SUCCEEDED, SINGLE])
    told = shell("show", "night:line-7")
    assert told.code == 0
    assert told.out.startswith("night:line-7: succeeded\n")
    assert "1. 1970-01-01 00:00:02 snoozed HTTP 429" in told.out
    assert shell("show", "0199-single").out.startswith("0199-single: expired\n")


async def test_show_tells_a_job_that_waits(shell: Shell, rig: Rig) -> None:
    """Before there is a row there is a place in the queue."""
    receipt = await rig.producer.enqueue(hello())
    told = shell("show", receipt.job_id)
    assert (told.code, told.out) == (0, f"{receipt.job_id}: queued\n")


async def test_show_tells_both_runs_of_a_requeued_job(shell: Shell, rig: Rig) -> None:
    """Its next run waits while its failed one is stored."""
    await rig.store.record([FAILED])
    assert shell("retry", "night", "--set", "max_tokens=5").code == 0
    told = shell("show", "night:line-8").out
    assert told.startswith("night:line-8: queued\nnight:line-8: failed\n")


async def test_show_does_not_know_every_job(shell: Shell, rig: Rig) -> None:
    """A typo is the usual cause, so it says what an id looks like."""
    await rig.store.record([SUCCEEDED])
    told = shell("show", "line-7")
    assert (told.code, told.out) == (2, "")
    assert told.err == (
        'error: no job "line-7", queued or stored; a batch\'s job is <batch>:<custom_id>\n'
    )


async def test_errors_groups_failures_with_what_would_fix_them(shell: Shell, rig: Rig) -> None:
    """A million failures are a handful of reasons."""
    again = msgspec.structs.replace(FAILED, job_id="night:line-9", custom_id="line-9", seq=9)
    await rig.store.record([SUCCEEDED, FAILED, again])
    told = shell("errors", "night")
    assert told.code == 0
    assert told.out.splitlines() == [
        "2 x invalid_request_error: max_tokens: 0",
        "  example    nightmill show night:line-8",
        "  to fix it  give at least 1",
        "  run again  nightmill retry night --error invalid_request_error --set FIELD=VALUE",
    ]


async def test_errors_of_a_batch_without_any(shell: Shell, rig: Rig) -> None:
    """The best morning; an unknown batch is another matter."""
    await rig.store.record([SUCCEEDED])
    assert shell("errors", "night").out == 'no job of batch "night" failed\n'
    told = shell("errors", "knight")
    assert told.code == 2
    assert told.err == ('error: no results of a batch "knight"; batches with results: night\n')
