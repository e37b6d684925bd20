"""What was paid for nothing is told apart from what a batch has spent."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.records.counts import Counts
from nightmill.records.limits import NANO
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage
from nightmill.records.state import JobState
from nightmill.records.waste import wasted_of
from nightmill.reports.progress import wasted

ANSWER = Result(job_id="j", status=JobState.SUCCEEDED, stop_reason="end_turn", cost=0.5)


def turn(why: str) -> Attempt:
    """Return a paid call that the job went on from; it cost $0.10."""
    call = Attempt(n=1, started_at=1, outcome="continued", error_type=why, billed=Usage())
    return msgspec.structs.replace(call, cost=0.1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, {}),
        ({"stop_reason": "max_tokens"}, {"truncated": 0.5}),
        ({"status": JobState.FAILED}, {"failed": 0.5}),
        (
            {"status": JobState.FAILED, "error": ErrorInfo(type="truncated", message="")},
            {"truncated": 0.5},
        ),
        (
            {"status": JobState.FAILED, "error": ErrorInfo(type="refused", message="")},
            {"failed": 0.5},
        ),
        ({"turns": 1, "attempts": (turn("pause_turn"), ANSWER)}, {}),
        ({"turns": 1, "attempts": (turn("truncated"),)}, {"truncated": 0.1}),
        ({"turns": 1, "attempts": (turn("invalid_output"),)}, {"repeated": 0.1}),
        ({"turns": 1, "attempts": (turn("refused"),)}, {"repeated": 0.1}),
        (
            {"turns": 1, "attempts": (turn("truncated"),), "stop_reason": "max_tokens"},
            {"truncated": 0.5},
        ),
    ],
)
def test_only_what_bought_no_result_is_wasted(
    row: dict[str, object], expected: dict[str, float]
) -> None:
    """Money for cut, refused and repeated answers was one sum with that for results."""
    if row.get("attempts"):
        row = {**row, "attempts": (row["attempts"][0],)}  # type: ignore[index]
    found = wasted_of(msgspec.structs.replace(ANSWER, **row), NANO // 2)
    assert {kind: number / NANO for kind, number in found.items()} == pytest.approx(expected)


def test_a_job_that_cost_nothing_wastes_nothing() -> None:
    """-1 stands for a price that is not known."""
    failed = msgspec.structs.replace(ANSWER, status=JobState.FAILED)
    assert wasted_of(failed, 0) == wasted_of(failed, -1) == {}


def test_the_waste_is_said_by_its_kinds() -> None:
    """It stands behind the cost in the summary and in status."""
    counts = Counts(nanodollars=NANO, wasted={"failed": 250_000_000, "repeated": 1_000_000_000})
    assert wasted(counts) == "$1.25 of it wasted (failed $0.2500, repeated $1.00)"
    assert wasted(Counts(nanodollars=NANO)) == ""
