"""`cancel`, `adjust` and the limits of `run`, as commands."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.integration.shell import Endpoint, Shell, finish, slowly, until


def test_cancel_ends_a_run_and_keeps_what_was_answered(shell: Shell, endpoint: Endpoint) -> None:
    """Calls under way finish, all other jobs are cancelled, and no prompt is called afterwards."""
    slowly(shell, endpoint)
    source = shell.write(2000)
    with shell.started("run", source) as running:
        until(lambda: len(endpoint.answered()) > 50)
        began = time.monotonic()
        cancelled = shell("cancel", "prompts")
        assert cancelled.code == 0, cancelled.err
        assert "is cancelled" in cancelled.out
        until(lambda: shell.queued("prompts") <= 25)
        calls = len(endpoint.answered())
        done = finish(running, 1)
    assert time.monotonic() - began < 20
    assert "cancelled" in done.err
    assert len(endpoint.answered()) == calls
    rows = shell.rows()
    assert len(rows) == 2000
    status = shell.status()
    assert (status["state"], status["succeeded"]) == ("cancelled", calls)
    assert status["cancelled"] == 2000 - calls
    again = shell("run", source)
    assert again.code == 2
    assert 'batch "prompts" was cancelled: nightmill retry prompts --cancelled' in again.err
    for command in ("pause", "resume"):
        refused = shell(command, "prompts")
        assert (refused.code, refused.out) == (2, "")
    assert shell.status()["state"] == "cancelled"


def test_cancel_writes_the_rows_itself_when_no_worker_runs(shell: Shell) -> None:
    """A batch that was interrupted can be cancelled without starting workers."""
    assert shell("enqueue", shell.write(700)).code == 0
    done = shell("cancel", "prompts")
    first, last = done.out.splitlines()
    assert first.endswith("700 jobs not yet called will be recorded as cancelled")
    assert last == "0 succeeded, 0 failed, 700 cancelled, 0 still in flight"
    assert len(shell("results", "prompts").out.splitlines()) == 700


def test_a_budget_stops_the_run_and_a_larger_one_continues_it(
    shell: Shell, endpoint: Endpoint
) -> None:
    """The run exits 3 with the reason; no prompt is paid for twice."""
    source = shell.write(300)
    done = shell("run", source, "--budget-usd", "0.02")
    assert done.code == 3
    why = r"stopped: the budget is used up\. \$0\.0\d+ of \$0\.02 is spent and the next call may "
    assert re.search(why + r"cost up to \$0\.0\d+\. Raise it: .* --budget-usd 0\.04\.", done.err)
    status = shell.status()
    assert status["state"] == "paused: budget"
    cost = status["cost"]
    assert isinstance(cost, dict)
    assert 0.01 < cost["usd"] < 0.021
    assert cost["projected_usd"] > cost["usd"]
    assert "of ~$" in shell("status", "prompts").out
    more = shell("run", source, "--budget-usd", "10")
    assert more.code == 0, more.err
    assert len(shell.rows()) == 300
    assert set(endpoint.answered()) == {1}


def test_jobs_expire_at_the_deadline(shell: Shell, endpoint: Endpoint) -> None:
    """A job that was not called by then gets an `expired` row, and the run ends by itself."""
    slowly(shell, endpoint)
    done = shell("run", shell.write(2000), "--expires", "4s")
    assert done.code == 1
    status = shell.status()
    assert status["state"] == "expired"
    succeeded, expired = status["succeeded"], status["expired"]
    assert isinstance(succeeded, int)
    assert isinstance(expired, int)
    assert succeeded + expired == 2000
    assert expired > 0
    assert len(shell.rows()) == 2000


def test_adjust_prints_all_limits(shell: Shell) -> None:
    """Limits that were not named stay as they are."""
    assert shell("enqueue", shell.write(3), "--weight", "5", "--expires", "1h30m").code == 0
    done = shell("adjust", "prompts", "--concurrency", "20", "--budget-tokens", "5000")
    assert done.code == 0, done.err
    assert re.fullmatch(
        '"prompts": weight 5, 20 in flight at most, expires in 1h (30|29)m, 5,000 tokens at most\n',
        done.out,
    )
    assert shell.status()["limits"]


def test_adjust_prints_what_a_batch_accepts_now(shell: Shell) -> None:
    """It printed the limits alone: nobody could see that the rule was taken."""
    assert shell("enqueue", shell.write(1)).code == 0
    schema = shell.folder / "s.json"
    schema.write_text('{"type": "object"}')
    rules = ("--on-truncated", "fail", "--on-refusal", "model:other")
    done = shell("adjust", "prompts", *rules, "--schema", str(schema))
    assert done.code == 0, done.err
    limits, accepts = done.out.splitlines()
    assert limits == '"prompts": weight 1'
    assert accepts.startswith('"prompts" accepts answers by: ')
    shown = set(accepts.partition(": ")[2].split(", "))
    assert shown == {"on_truncated fail", "on_refusal model:other", "schema of --schema"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--weight", "0"), "weight: 1 to 1000, not 0"),
        (("--concurrency", "-1"), "concurrency: 1 at least, not -1"),
        (("--expires", "soon"), "expires: a time such as 90m, 24h or 7d, not 'soon'"),
        (("--expires", "0h"), "expires: a time in the future"),
        (("--budget-usd", "0"), "budget_usd: dollars, more than 0"),
        (("--budget-tokens", "0"), "budget_tokens: 1 at least"),
        (("--budget-usd", "5", "--model", "house-model"), "no price is known for house-model"),
        ((), "nothing to adjust"),
    ],
)
def test_a_limit_out_of_range_gives_one_line(
    shell: Shell, options: tuple[str, ...], problem: str
) -> None:
    """The command exits 2 and names the limit and its range."""
    assert shell("enqueue", shell.write(1)).code == 0
    done = shell("adjust", "prompts", *options)
    assert done.code == 2
    assert problem in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["cancel", "adjust"])
def test_an_unknown_batch_is_named(tmp_path: Path, command: str) -> None:
    """The message also lists the batches that exist."""
    options = ("--weight", "2") if command == "adjust" else ()
    done = Shell(tmp_path)(command, "nope", *options)
    assert (done.code, done.err) == (2, 'error: no batch "nope"; batches: none\n')


def test_adjust_shows_a_budget_below_a_cent(shell: Shell) -> None:
    """$0.0001 was shown as `$0.00 at most`, as if the batch could spend nothing."""
    assert shell("enqueue", shell.write(1)).code == 0
    assert "$0.0001 at most" in shell("adjust", "prompts", "--budget-usd", "0.0001").out


@pytest.mark.parametrize("state", ["pause", "cancel"])
def test_adjust_says_that_a_held_batch_does_not_go_on(shell: Shell, state: str) -> None:
    """`adjust --expires` of a cancelled batch looked as if the batch went on."""
    assert shell("enqueue", shell.write(1)).code == 0
    assert shell(state, "prompts").code == 0
    done = shell("adjust", "prompts", "--expires", "8h")
    fix = "retry prompts --cancelled" if state == "cancel" else "resume prompts"
    assert f"nightmill {fix}" in done.out.splitlines()[1]
