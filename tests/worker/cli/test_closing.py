"""What `run` says at its end; the texts are those that people read at night."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from nightmill.cli.console import VisibleConsole
from nightmill.enqueue.fed import Fed
from nightmill.records.counts import Counts
from nightmill.records.limits import Limits
from nightmill.reports.failures import Failure
from nightmill_worker.cli import closing_said
from nightmill_worker.cli.closing import LONGEST, advice, reasons, summary
from nightmill_worker.cli.closing_block import LABEL, Block, draw_advice, rows
from nightmill_worker.machine.local_run import End, Ending

DONE = Counts(
    total=3000,
    succeeded=3000,
    stop_reasons={"end_turn": 2895, "max_tokens": 105},
    input_tokens=365_900,
    output_tokens=145_600,
    nanodollars=5_470_000_000,
)
KEY = (
    "the endpoint refused the key (401 invalid x-api-key). Set a valid ANTHROPIC_API_KEY (or "
    "NIGHTMILL_API_KEY / _AUTH_TOKEN), then run `nightmill resume`"
)


def ended(counts: Counts, end: End = End.DONE, **more: object) -> Ending:
    """Return the ending of a run."""
    return Ending(end=end, counts=counts, fed=Fed(), **more)  # type: ignore[arg-type]


def test_the_summary_tells_what_was_cut_and_paid() -> None:
    """105 answers were cut at max_tokens, and the summary said "3,000 succeeded"."""
    assert summary(ended(DONE), "rv", 31, 0, rehearsal=False) == [
        (
            "rv: 3,000 succeeded (105 cut at max_tokens), 0 failed, in 31 s. 365.9k tokens in, "
            "145.6k out, $5.47. No rate-limit refusals."
        )
    ]


def test_the_summary_tells_what_was_called_now() -> None:
    """After Ctrl-C or `retry` it said "0 new, 399 stored before" of 12 that were just called."""
    counts = Counts(total=399, succeeded=399)
    (line,) = summary(ended(counts, earlier=387), "few", 2, 7, rehearsal=False)
    assert "399 succeeded, 0 failed: 387 from earlier runs, 12 called now, in 2 s." in line
    assert line.endswith("7 rate-limit refusals (429).")


def test_a_rehearsal_costs_nothing() -> None:
    """It showed the list price like a bill."""
    lines = summary(ended(DONE), "rv", 75, 0, rehearsal=True)
    assert lines[-1] == (
        "REHEARSAL, nothing was paid: these tokens would have cost $5.47 at list prices."
    )
    assert "$" not in lines[0]
    assert "in 1m 15s." in lines[0]


def test_failures_and_cut_answers_name_the_command_that_explains_them() -> None:
    """It named `results --failed`, and repeated the counts that stand above it."""
    counts = Counts(failed=12, stop_reasons={"refusal": 2})
    assert advice(ended(counts), "f 400", clean=True) == [
        "All reasons, each with an example: nightmill errors 'f 400'"
    ]
    assert advice(ended(Counts(succeeded=1)), "b", clean=True) == []


@pytest.mark.parametrize(
    ("limits", "reason", "shown"),
    [
        (
            Limits(budget_usd=0.1),
            "$0.083 of $0.10 is spent and the next call may cost up to $0.041",
            (
                "the budget is used up. $0.083 of $0.10 is spent and the next call may cost up to "
                "$0.041. Raise it: run the same command again with --budget-usd 0.2."
            ),
        ),
        (
            Limits(budget_tokens=2500),
            "2490 of 2500 tokens are used and the next call may use up to 30",
            (
                "the budget is used up. 2490 of 2500 tokens are used and the next call may use "
                "up to 30. Raise it: run the same command again with --budget-tokens 5000."
            ),
        ),
    ],
)
def test_a_budget_that_is_used_up_names_the_option_that_raises_it(
    limits: Limits, reason: str, shown: str
) -> None:
    """The same command again, which it advised, sets the same budget again."""
    counts = Counts(total=5, succeeded=3, queued=2, flag="budget", reason=reason, limits=limits)
    (line,) = advice(ended(counts, End.STOPPED, reason=reason), "c1", clean=True)
    assert line == f"stopped: {shown} All 2 jobs are kept."


def test_the_budget_that_is_advised_is_above_what_is_spent() -> None:
    """The first answer may cost more than twice the budget; the advice stopped at once again."""
    for limits, reason, option in (
        (Limits(budget_usd=0.01), "$0.03 of $0.01 is spent", "--budget-usd 0.06."),
        (Limits(budget_tokens=10), "90 of 10 tokens are used", "--budget-tokens 180."),
    ):
        counts = Counts(
            total=5,
            succeeded=1,
            queued=4,
            nanodollars=30_000_000,
            input_tokens=50,
            output_tokens=40,
            flag="budget",
            reason=reason,
            limits=limits,
        )
        (line,) = advice(ended(counts, End.STOPPED, reason=reason), "c1", clean=True)
        assert option in line


def test_a_refused_key_names_the_variable_and_says_that_no_job_is_lost() -> None:
    """`resume` needs nothing else after a run: the same command tries the account again."""
    counts = Counts(total=40, queued=40)
    assert advice(ended(counts, End.STOPPED, reason=KEY), "k", clean=True) == [
        (
            "stopped: the endpoint refused the key (401 invalid x-api-key). Set a valid "
            "ANTHROPIC_API_KEY (or NIGHTMILL_API_KEY / _AUTH_TOKEN), then run the same command "
            "again. All 40 jobs are kept."
        )
    ]


def test_failures_are_told_by_reason_with_the_command_that_fixes_them() -> None:
    """A tired person should not have to ask a second command first."""
    group = Failure(
        type="invalid_request_error",
        message="max_tokens: 0",
        count=9,
        example="b:1",
        fix="give at least 1",
        command="nightmill retry b --set max_tokens=N",
    )
    assert reasons([group] * 9)[:2] == [
        "  9 x invalid_request_error: max_tokens: 0",
        "    give at least 1, then: nightmill retry b --set max_tokens=N",
    ]
    assert reasons([group] * 9)[10:] == ["  and 4 more reasons (36 jobs)"]
    assert len(reasons([group] * 5)) == 10


def test_the_summary_tells_the_used_share_of_the_limit() -> None:
    """Only when jobs waited for the limit for long enough."""
    counts = Counts(total=9, succeeded=9, metered_ms=60_000, used_ms=57_000)
    (line,) = summary(ended(counts), "b", 99, 0, rehearsal=False)
    assert line.endswith("No rate-limit refusals. 95.0% of the rate limit used.")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_terminal_gets_aligned_rows(width: int) -> None:
    """One long line of ten figures was what a tired person had to read."""
    counts = Counts(
        total=3000,
        succeeded=2000,
        failed=12,
        queued=988,
        stop_reasons={"max_tokens": 105, "refusal": 2},
        nanodollars=5_470_000_000,
        metered_ms=60_000,
        used_ms=57_000,
    )
    shown = rows(ended(counts, End.STOPPED), "夜間バッチ🚀" * 9, 75, 7, rehearsal=False)
    console = VisibleConsole(width=width)
    console.file = io.StringIO()
    console.print(Block(shown))
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line[LABEL : LABEL + 2] == "  " for line in lines)
    for part in (
        "succeeded   2,000 of 3,000",
        "truncated   105 cut at max_tokens",
        "refused     2 refused by the model",
        "failed      12",
        "left        988",
        "cost        $5.47",
        "limit used  95.0%; 7 rate-limit refusals (429)",
    ):
        assert part in lines


def test_a_message_of_an_endpoint_does_not_fill_the_screen() -> None:
    """An error page of 60 kB is one line of the summary."""
    group = Failure(type="t", message="x" * 60_000, count=1, example="b:1", fix=None, command="c")
    assert len(reasons([group])[0]) < LONGEST + 20


async def test_a_store_that_is_away_does_not_hide_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reading the reasons raised, and the advice was never printed."""
    away = "postgresql://127.0.0.1:1/none?connect_timeout=1"
    assert await closing_said.read_why(away, "b", Counts(failed=3)) == []
    assert capsys.readouterr().err.startswith("why they failed cannot be read now: ")
    assert await closing_said.read_why(away, "b", Counts(succeeded=3)) == []


def test_a_command_in_the_advice_is_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 60 columns the terminal broke the text within words."""
    monkeypatch.setenv("COLUMNS", "60")
    draw_advice(f"{'4 failed. ' * 9}All reasons, each with an example: nightmill errors 'a b'")
    *prose, command = capsys.readouterr().err.splitlines()
    assert command == "  nightmill errors 'a b'"
    assert max(map(len, prose)) <= 60
    assert " ".join(" ".join(prose).split()).endswith("each with an example:")
