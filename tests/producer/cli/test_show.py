"""`nightmill show` and `nightmill errors`."""

from __future__ import annotations

import msgspec

from tests.integration.shell import Shell
from tests.producer.store.samples import FAILED, SINGLE, SUCCEEDED
from tests.rig import Rig, hello

RETRY = "nightmill retry night --error invalid_request_error"


async def test_show_prints_a_stored_job(shell: Shell, rig: Rig) -> None:
    """A batch's job is named by batch and custom_id, a single one by its id."""
    await rig.store.record([SUCCEEDED, SINGLE])
    done = shell("show", "night:line-7")
    assert done.code == 0
    assert done.out.startswith("night:line-7: succeeded\n")
    assert "1. 1970-01-01 00:00:02 snoozed HTTP 429" in done.out
    assert shell("show", "0199-single").out.startswith("0199-single: expired\n")


async def test_show_prints_a_queued_job(shell: Shell, rig: Rig) -> None:
    """A job without a row is found in Redis."""
    receipt = await rig.producer.enqueue(hello())
    done = shell("show", receipt.job_id)
    assert done.code == 0
    assert done.out.startswith(f"{receipt.job_id}: queued\n\nrequest\n  max_tokens 50\n")
    assert "  user: hello\n" in done.out


async def test_show_prints_both_runs_of_a_requeued_job(shell: Shell, rig: Rig) -> None:
    """The failed run is stored while the next one is queued."""
    await rig.store.record([FAILED])
    assert shell("retry", "night", "--set", "max_tokens=5").code == 0
    done = shell("show", "night:line-8").out
    assert done.startswith("night:line-8: queued\n")
    assert "\nnight:line-8: failed\n" in done


async def test_show_of_an_unknown_job_is_one_line_of_error(shell: Shell, rig: Rig) -> None:
    """The usual cause is a typo, so the error shows what an id looks like."""
    await rig.store.record([SUCCEEDED])
    done = shell("show", "line-7")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        'error: no job "line-7", queued or stored; a batch\'s job is <batch>:<custom_id>\n'
    )


async def test_errors_groups_failures_with_what_would_fix_them(shell: Shell, rig: Rig) -> None:
    """Two failures with the same message are one group."""
    again = msgspec.structs.replace(FAILED, job_id="night:line-9", custom_id="line-9", seq=9)
    await rig.store.record([SUCCEEDED, FAILED, again])
    done = shell("errors", "night")
    assert done.code == 0
    assert done.out.splitlines() == [
        "2 x invalid_request_error: max_tokens: 0",
        "  example    nightmill show night:line-8",
        f"  to fix it  give at least 1, then: {RETRY} --set FIELD=VALUE",
    ]


async def test_errors_of_a_batch_without_any(shell: Shell, rig: Rig) -> None:
    """No failure is no error; an unknown batch is one."""
    await rig.store.record([SUCCEEDED])
    assert (
        shell("errors", "night").out
        == 'no job of batch "night" failed, and no answer was cut or refused\n'
    )
    done = shell("errors", "knight")
    assert done.code == 2
    assert done.err == ('error: no results of a batch "knight"; batches with results: night\n')
