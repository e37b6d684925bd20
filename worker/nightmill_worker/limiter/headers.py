"""The endpoint's limits in an answer: its rate-limit headers, and the limit that a 429 names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PREFIX: Final = "anthropic-ratelimit-"
_HEADERS: Final = {
    dimension: (f"{_PREFIX}{name}-limit", f"{_PREFIX}{name}-remaining")
    for dimension, name in (
        ("requests", "requests"),
        ("input", "input-tokens"),
        ("output", "output-tokens"),
    )
}
# The first match counts: "output tokens per minute" is about output, whatever else is in the text.
_NAMES: Final = (
    ("window", re.compile(r"concurren|in flight|simultaneous|parallel", re.IGNORECASE)),
    ("output", re.compile(r"output[ -]token", re.IGNORECASE)),
    ("input", re.compile(r"input[ -]token|prompt token", re.IGNORECASE)),
    ("requests", re.compile(r"requests? per|request limit|number of requests", re.IGNORECASE)),
)


def limits_in(headers: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return dimension -> (limit a minute, remaining) for the limits that `headers` report.

    A header that is not a whole number counts as absent. Without any such header: {}.
    """
    reported = {}
    for dimension, (limit_name, remaining_name) in _HEADERS.items():
        if (limit := headers.get(limit_name)) is None:
            continue
        remaining = headers.get(remaining_name, "")
        if limit.isdecimal() and remaining.isdecimal() and int(limit) > 0:
            reported[dimension] = (int(limit), int(remaining))
    return reported


def gate_named(message: str) -> str | None:
    """Return the limit that a 429's message names: window, requests, input or output; else None."""
    return next((name for name, words in _NAMES if words.search(message)), None)
