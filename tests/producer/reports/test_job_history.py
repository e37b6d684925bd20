"""The history of one job as text."""

from __future__ import annotations

import msgspec

from nightmill.records.result import Attempt
from nightmill.reports.job_history import stored_history
from tests.producer.store.samples import FAILED, SUCCEEDED


def test_every_call_and_wait_has_a_line() -> None:
    """`nightmill show` prints these lines."""
    history = "\n".join(stored_history(SUCCEEDED))
    for part in (
        "night:line-7: succeeded",
        "counted attempts: 1, not counted: 1 (1 rate_limit_error)",
        "1. 1970-01-01 00:00:02 snoozed HTTP 429",
        "waited 1.0 s",
        "2. 1970-01-01 00:00:03 succeeded HTTP 200",
        "[req_2]",
        "11 in + 22 out tokens, cache 33 read + 44 written, $0.000625",
    ):
        assert part in history
    assert "to fix it: give at least 1" in "\n".join(stored_history(FAILED))


def test_a_line_says_how_many_calls_are_left_out() -> None:
    """A row keeps only the first and the last calls."""
    calls = (Attempt(n=1, started_at=1, outcome="snoozed"),)
    row = msgspec.structs.replace(SUCCEEDED, attempts=calls, snooze_count=40)
    assert "  40 calls in between are not kept" in stored_history(row)


def test_lines_fit_80_columns() -> None:
    """Facts have one line each, so that an ordinary terminal does not fold them."""
    lane = "1303f0c1a7b2d3e4:claude-opus-4-6"
    row = msgspec.structs.replace(SUCCEEDED, lane=lane, worker="8939161c06e4")
    assert max(map(len, stored_history(row))) <= 80


def test_a_call_after_which_the_job_went_on_shows_its_answer() -> None:
    """Answers that did not pass were paid for; they are kept to find out why."""
    answer = msgspec.Raw(b'{"content":[{"type":"text","text":"not what was asked"}]}')
    call = Attempt(n=1, started_at=1, outcome="continued", counted=False, answer=answer)
    call = msgspec.structs.replace(
        call, status=200, error_type="invalid_output", error_message="$.a: required"
    )
    history = stored_history(msgspec.structs.replace(SUCCEEDED, attempts=(call,)))
    (line,) = (line for line in history if "continued" in line)
    assert line.endswith("continued HTTP 200 after 0.0 s, invalid_output: $.a: required")
    assert history[history.index(line) + 1] == "     assistant: not what was asked"
