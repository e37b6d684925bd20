"""The endpoint's limits in an answer: its rate-limit headers, and the limit that a 429 names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from nightmill_worker.limiter.bounds import LARGEST_LIMIT

_TOKENS: Final = (("input", "input-tokens"), ("output", "output-tokens"))


def _names(prefix: str, units: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, str]]:
    return {to: (f"{prefix}-{unit}-limit", f"{prefix}-{unit}-remaining") for to, unit in units}


# Of other headers: anthropic-priority-* tell how much of a commitment of tokens is left. They bind
# nothing: calls above it are made at the standard tier, whose own headers say what that allows.
_STANDARD: Final = _names("anthropic-ratelimit", (("requests", "requests"), *_TOKENS))
_FAST: Final = _names("anthropic-fast", _TOKENS)
FAST_LANE: Final = " fast"
"""Ends the name of a lane of calls in fast mode, as in lane_names.lua."""
_DIGITS: Final = 20
"""A longer number is out of range, and thousands of digits are an error in Python."""
# The first match counts: "output tokens per minute" is about output, whatever else is in the text.
_NAMES: Final = (
    ("window", re.compile(r"concurren|in flight|simultaneous|parallel", re.IGNORECASE)),
    ("output", re.compile(r"output[ -]token", re.IGNORECASE)),
    ("input", re.compile(r"input[ -]token|prompt token", re.IGNORECASE)),
    ("requests", re.compile(r"requests? per|request limit|number of requests", re.IGNORECASE)),
)


def limits_in(headers: Mapping[str, str], lane: str = "") -> dict[str, tuple[int, int]]:
    """Return dimension -> (limit a minute, remaining) for the limits that `headers` report.

    A header that is not a whole number from 0 to LARGEST_LIMIT counts as absent. So does a limit of
    0. Without any such header: {}. A lane of calls in fast mode follows the limits of fast mode,
    which are apart from the others; without such headers, a call ran at standard speed.
    """
    fast = _reported(headers, _FAST) if lane.endswith(FAST_LANE) else {}
    return fast or _reported(headers, _STANDARD)


def _reported(
    headers: Mapping[str, str], names: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[int, int]]:
    reported = {}
    for dimension, (limit_name, remaining_name) in names.items():
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
