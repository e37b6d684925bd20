"""Stop reasons: what is counted, under which name, and how it is shown."""

from __future__ import annotations

from nightmill.records.state import JobState
from nightmill.records.stop_reasons import (
    LONGEST,
    MOST,
    counted_as,
    named,
    not_whole,
    shown,
    tallied,
)


def test_every_stop_reason_is_told_by_name_and_whole_answers_are_not() -> None:
    """Refused, cut and unknown answers looked like all others: "3 succeeded, 0 failed"."""
    stops = {"end_turn": 9, "tool_use": 1, "refusal": 2, "max_tokens": 1_105, "new_one": 3}
    assert shown(stops) == (
        "1,105 cut at max_tokens, 3 stopped with new_one, 2 refused by the model"
    )
    assert not_whole({"end_turn": 3, "stop_sequence": 1}) == {}


def test_a_message_without_a_stop_reason_is_counted_and_an_error_is_not() -> None:
    """Every succeeded row is counted once; a row without an answer has nothing to count."""
    assert counted_as(JobState.SUCCEEDED, None) == "none"
    assert counted_as(JobState.FAILED, None) == ""
    assert counted_as(JobState.FAILED, "max_tokens") == ""
    assert named(JobState.FAILED, "max_tokens") == "max_tokens"
    assert counted_as(JobState.SUCCEEDED, "x" * 999) == "x" * LONGEST


def test_an_endpoint_that_makes_names_up_fills_no_memory() -> None:
    """Names beyond the first 32 are counted together."""
    stops = tallied((JobState.SUCCEEDED, f"name-{n}", 1) for n in range(1000))
    assert len(stops) == MOST + 1
    assert sum(stops.values()) == 1000
