"""The breaker of a lane: it stops calls to a failing endpoint, then lets one try. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FAILURES: Final = 8
"""The breaker opens after at least this many failures."""
SHARE: Final = 0.5
"""The breaker opens when at least this share of the recent calls failed."""
RECENT_S: Final = 10.0
RECENT_CALLS: Final = 40
"""Recent calls are those of the last RECENT_S, or the last RECENT_CALLS if that is fewer calls."""
OPEN_S: Final = (1.0, 15.0)
"""The first and the longest time the breaker stays open, seconds. It doubles each time."""
LARGEST_DOUBLINGS: Final = 16
"""In a long outage, `opened` itself would be too large a power of 2."""
JITTER: Final = 0.25
"""Each open time varies by this share either way, so that two fleets do not come back together."""
TRIAL_S: Final = 60.0
"""A trial without a result after this many seconds was lost with its worker. Another one goes."""
TRIAL_LENGTHS: Final = 3.0
"""Where calls are long, a trial is lost after this many times their mean length."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended up to one moment."""

    at: float
    """The law's clock, seconds."""
    calls: int
    failed: int
    """How many of them failed: 5xx, 529 or a broken connection."""


class Breaker(msgspec.Struct, frozen=True, kw_only=True, rename={"recent": "lately"}):
    """The state of a breaker, stored with the lane.

    Closed: calls go. Open: no call goes until `until`. Half open: one call goes, the trial.
    """

    state: Literal["closed", "open", "half"] = "closed"
    until: float = 0.0
    """When the open time or the trial's time ends, by the law's clock, seconds."""
    opened: int = 0
    """How often in a row the breaker opened."""
    recent: tuple[Ended, ...] = ()
    """The calls that ended recently, oldest first."""
    calls: int = 0
    """The lane's counter of ended calls at the last step."""
    failed: int = 0
    """The lane's counter of failed calls at the last step."""


def watch(  # noqa: PLR0913 - three counters, a clock, a random number and a length
    breaker: Breaker,
    *,
    calls: int,
    failed: int,
    trial: str,
    now: float,
    chance: float,
    length: float = 0.0,
) -> Breaker:
    """Return the breaker after `calls` calls ended since the lane began, `failed` of them failed.

    `trial` is how the trial ended: "ok" (any answer that is not a failure), "failed", or "" while
    it runs. `now` is the law's clock, seconds. `chance` is random, uniform from 0 to 1.
    `length` is the mean length of the lane's calls, seconds.
    """
    ended = Ended(at=now, calls=calls - breaker.calls, failed=failed - breaker.failed)
    recent = _recent((*breaker.recent, ended) if ended.calls > 0 else breaker.recent, now)
    breaker = msgspec.structs.replace(breaker, recent=recent, calls=calls, failed=failed)
    match breaker.state:
        case "closed" if _failing(recent):
            return _open(breaker, now, chance)
        case "open" if now >= breaker.until:
            until = now + max(TRIAL_S, TRIAL_LENGTHS * length)
            return msgspec.structs.replace(breaker, state="half", until=until)
        case "half" if trial == "failed":
            return _open(breaker, now, chance)
        case "half" if trial == "ok":
            return Breaker(calls=calls, failed=failed)
        case "half" if now >= breaker.until:
            return _open(breaker, now, chance)
        case _:
            return breaker


def _recent(ended: tuple[Ended, ...], now: float) -> tuple[Ended, ...]:
    """Drop what is older than RECENT_S, and what is not among the last RECENT_CALLS."""
    kept, calls = len(ended), 0
    while kept and calls < RECENT_CALLS and now - ended[kept - 1].at <= RECENT_S:
        kept -= 1
        calls += ended[kept].calls
    return ended[kept:]


def _failing(recent: tuple[Ended, ...]) -> bool:
    failed = sum(e.failed for e in recent)
    return failed >= FAILURES and failed >= SHARE * sum(e.calls for e in recent)


def _open(breaker: Breaker, now: float, chance: float) -> Breaker:
    first, longest = OPEN_S
    doublings = min(breaker.opened, LARGEST_DOUBLINGS)
    open_s = min(longest, first * 2.0**doublings) * (1 + JITTER * (2 * chance - 1))
    return msgspec.structs.replace(
        breaker, state="open", until=now + open_s, opened=breaker.opened + 1, recent=()
    )
