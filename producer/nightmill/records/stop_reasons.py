"""Stop reasons: which ones mean that an answer is whole, and how the others are shown to a person.

Rows that succeeded are counted by stop reason in Redis and in the store. What a batch does with an
answer that is not whole is its acceptance: see records.acceptance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from nightmill.records.state import JobState

NONE: Final = "none"
"""Counts succeeded rows whose message has no stop reason."""
OTHER: Final = "other"
"""Counts further names once MOST are counted: an endpoint may make up any number of them."""
MOST: Final = 32
"""Names that are counted of one batch. finish.lua holds to it."""
FIELD: Final = "stop:"
"""What the fields of a batch's hash begin with that count rows by their stop reason."""
LONGEST: Final = 64
"""Characters of a name that are kept."""

TRUNCATED: Final = "max_tokens"
REFUSAL: Final = "refusal"
WHOLE: Final = frozenset({"end_turn", "stop_sequence", "tool_use"})
"""Stop reasons of answers that are whole."""
_DESCRIPTIONS: Final = {
    TRUNCATED: "cut at max_tokens",
    "model_context_window_exceeded": "cut at the context window",
    REFUSAL: "refused by the model",
    "pause_turn": "paused (pause_turn)",
    NONE: "without a stop reason",
    OTHER: "with other stop reasons",
}


FIXES: Final = {
    TRUNCATED: "raise max_tokens",
    "model_context_window_exceeded": "shorten the request, or use a model with a larger context",
    REFUSAL: "change the prompt, or use another model",
    "pause_turn": "send the answer back as the assistant's turn, so that the model goes on",
}
"""What to change before a request is sent again whose answer is not whole."""


def named(status: JobState, stop_reason: str | None) -> str:
    """Return the name of how a row's answer stopped, "" for a row that has no answer."""
    if stop_reason:
        return stop_reason[:LONGEST]
    return NONE if status is JobState.SUCCEEDED else ""


def counted_as(status: JobState, stop_reason: str | None) -> str:
    """Return the name under which a row is counted, "" for a row that did not succeed.

    An answer that was not accepted counts as failed, by its error.
    """
    return named(status, stop_reason) if status is JobState.SUCCEEDED else ""


def tallied(rows: Iterable[tuple[JobState, str | None, int]]) -> dict[str, int]:
    """Return name -> number of rows, of (status, stop reason, number); at most MOST + 1 names."""
    numbers: Counter[str] = Counter()
    for status, stop_reason, number in rows:
        if name := counted_as(status, stop_reason):
            known = name in numbers or len(numbers) < MOST
            numbers[name if known else OTHER] += number
    return dict(numbers)


def not_whole(stops: Mapping[str, int]) -> dict[str, int]:
    """Return those of `stops` that mean an answer that is not whole, the most frequent first."""
    return {
        name: number
        for name, number in sorted(stops.items(), key=lambda each: (-each[1], each[0]))
        if name not in WHOLE and number > 0
    }


def described(name: str) -> str:
    """Return what a stop reason means for an answer, to stand behind a number."""
    return _DESCRIPTIONS.get(name, f"stopped with {name}")


def shown(stops: Mapping[str, int]) -> str:
    """Return "105 cut at max_tokens, 2 refused by the model"; "" when all answers are whole."""
    return ", ".join(f"{number:,} {described(name)}" for name, number in not_whole(stops).items())
