"""The breaker of a lane: a failing endpoint is left alone for a while, then tried once. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FAILURES: Final = 8
"""Fewer failures than this never open it."""
SHARE: Final = 0.5
"""It opens when at least this share of the calls that ended lately failed."""
LATELY_S: Final = 10.0
LATELY_CALLS: Final = 40
"""Lately is the last LATELY_S, or the last LATELY_CALLS where those took less time."""
OPEN_S: Final = (1.0, 15.0)
"""The first and the longest rest, doubling between, each +-25 % so that fleets do not march."""
JITTER: Final = 0.25
TRIAL_S: Final = 60.0
"""A trial that nobody tells the end of was lost with its worker: another one goes."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended by `at`, and how many of them failed (5xx, 529, connection)."""

    at: float
    calls: int
    failed: int


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """Closed: calls go. Open until `until`: none goes. Half open: one goes, the trial.

    `opened` counts how often in a row it opened; `lately` is what ended, oldest first, and
    `calls` and `failed` are the lane's counters when it was last looked at.
    """

    state: Literal["closed", "open", "half"] = "closed"
    until: float = 0.0
    opened: int = 0
    lately: tuple[Ended, ...] = ()
    calls: int = 0
    failed: int = 0


def watch(  # noqa: PLR0913 - three counters, a clock and a chance
    breaker: Breaker, *, calls: int, failed: int, trial: str, now: float, chance: float
) -> Breaker:
    """Return the breaker now: `calls` ended so far, `failed` of them failed.

    `trial` is how the trial ended: "ok" (any answer that is no failure), "failed", or "" while it
    runs. `chance` is uniform in 0 to 1.
    """
    ended = Ended(at=now, calls=calls - breaker.calls, failed=failed - breaker.failed)
    lately = _lately((*breaker.lately, ended) if ended.calls > 0 else breaker.lately, now)
    breaker = msgspec.structs.replace(breaker, lately=lately, calls=calls, failed=failed)
    match breaker.state:
        case "closed" if _failing(lately):
            return _open(breaker, now, chance)
        case "open" if now >= breaker.until:
            return msgspec.structs.replace(breaker, state="half", until=now + TRIAL_S)
        case "half" if trial == "failed":
            return _open(breaker, now, chance)
        case "half" if trial == "ok":
            return Breaker(calls=calls, failed=failed)
        case "half" if now >= breaker.until:
            return _open(breaker, now, chance)
        case _:
            return breaker


def _lately(ended: tuple[Ended, ...], now: float) -> tuple[Ended, ...]:
    """Drop what is older than LATELY_S and not needed to make up LATELY_CALLS."""
    kept, calls = len(ended), 0
    while kept and calls < LATELY_CALLS and now - ended[kept - 1].at <= LATELY_S:
        kept -= 1
        calls += ended[kept].calls
    return ended[kept:]


def _failing(lately: tuple[Ended, ...]) -> bool:
    failed = sum(e.failed for e in lately)
    return failed >= FAILURES and failed >= SHARE * sum(e.calls for e in lately)


def _open(breaker: Breaker, now: float, chance: float) -> Breaker:
    first, longest = OPEN_S
    rest = min(longest, first * 2.0**breaker.opened) * (1 + JITTER * (2 * chance - 1))
    return msgspec.structs.replace(
        breaker, state="open", until=now + rest, opened=breaker.opened + 1, lately=()
    )
