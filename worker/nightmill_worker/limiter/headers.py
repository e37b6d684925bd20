"""The endpoint's limits in an answer: its rate-limit headers, and the limit that a 429 names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from nightmill_worker.limiter.bounds import LARGEST_LIMIT

_PREFIX: Final = "anthropic-ratelimit-"
_HEADERS: Final = {
    dimension: (f"{_PREFIX}{name}-limit", f"{_PREFIX}{name}-remaining")
    for dimension, name in (
        ("requests", "requests"),
        ("input", "input-tokens"),
        ("output", "output-tokens"),
    )
}
_DIGITS: Final = 20
"""A longer number is out of range, and thousands of digits are an error in Python."""
# The first match counts: "output tokens per minute" is about output, whatever else is in the text.
_NAMES: Final = (
    ("window", re.compile(r"concurren|in flight|simultaneous|parallel", re.IGNORECASE)),
    ("output", re.compile(r"output[ -]token", re.IGNORECASE)),
    ("input", re.compile(r"input[ -]token|prompt token", re.IGNORECASE)),
    ("requests", re.compile(r"requests? per|request limit|number of requests", re.IGNORECASE)),
)


def limits_in(headers: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return dimension -> (limit a minute, remaining) for the limits that `headers` report.

    A header that is not a whole number from 0 to LARGEST_LIMIT counts as absent. So does a limit of
    0. Without any such header: {}.
    """
    reported = {}
    for dimension, (limit_name, remaining_name) in _HEADERS.items():
        if (text := headers.get(limit_name)) is None:
            continue
        limit, remaining = _units(text), _units(headers.get(remaining_name, ""))
        if limit and remaining is not None:
            reported[dimension] = (limit, remaining)
    return reported


def _units(text: str) -> int | None:
    """Return a whole number from 0 to LARGEST_LIMIT, None for any other text."""
    if not text.isdecimal() or len(text) > _DIGITS:
        return None
    units = int(text)
    return units if units <= LARGEST_LIMIT else None


def gate_named(message: str) -> str | None:
    """Return the limit that a 429's message names: window, requests, input or output; else None."""
    return next((name for name, words in _NAMES if words.search(message)), None)
